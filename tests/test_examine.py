"""Measuring runs and other models: what is written where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests import toy
from tunesmith import api, examine
from tunesmith.core.errors import RecipeError
from tunesmith.core.files import read_json
from tunesmith.elsewhere import Wanted

WRITTEN = {"environment.json", "evaluation.json", "predictions", "report.html"}


def test_options_of_the_command_line() -> None:
    words = ["task=classify", "label=LABEL_0=a=b", "set=task.text=x", "train=t.csv", "before=builtin:minilm"]
    assert examine.wanted(Path("d.csv"), [], words) == Wanted(
        Path("d.csv"), [], "classify", Path("t.csv"), "builtin:minilm", {"LABEL_0": "a=b"}, ["task.text=x"]
    )
    with pytest.raises(RecipeError) as caught:
        examine.wanted(None, [], ["tsk=classify", "label=a"])
    assert "'tsk=classify' is not KEY=VALUE. Did you mean 'task'?" in caught.value.message
    assert "--label 'a' is not NAME_IN_THE_HEAD=NAME_IN_THE_FILE" in caught.value.message


def test_a_run_and_its_plain_model_are_measured_alike_and_written(full_run: Path, tmp_path: Path) -> None:
    data = toy.write_csv(tmp_path / "test.csv", 9)
    shutil.copytree(full_run / "model", tmp_path / "theirs")
    found = [api.evaluate(one, data=data, before=before, out=tmp_path / out) for one, before, out in (
        (full_run, None, "a"), (tmp_path / "theirs", "builtin:tiny-bert", "b"))]  # fmt: skip
    figures = [[one for one in each["suites"]["task"]["figures"] if one["subject"] in ("model", "untrained head")]
               for each in found]  # fmt: skip
    assert figures[0] == figures[1] and figures[0]
    for out, one in zip(("a", "b"), found, strict=True):
        assert {path.name for path in (tmp_path / out).iterdir()} == WRITTEN
        assert read_json(tmp_path / out / "evaluation.json") == one
        assert len((tmp_path / out / "predictions" / "test.jsonl").read_text().splitlines()) == 9


def test_further_suites_become_part_of_a_run(full_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(full_run, tmp_path / "run")
    before = read_json(run / "evaluation.json")
    found = api.evaluate(run, suites=[{"name": "calibration"}])
    after = read_json(run / "evaluation.json")
    assert set(found["suites"]) == {"calibration"} and found["suites"]["calibration"]["figures"]
    assert after == {**before, "suites": {**before["suites"], **json.loads(json.dumps(found["suites"]))}}
    card = (run / "model" / "README.md").read_text()
    assert "Suite `calibration`" in card and "Suite `calibration`" not in (full_run / "model" / "README.md").read_text()
    assert "Calibration" in (run / "report.html").read_text()


def test_what_does_not_go_together_is_refused(full_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--task, --before: .* is a run, which knows its task"):
        examine.evaluate(full_run, Wanted(data=Path("x.csv"), task="classify", before="builtin:minilm"))
    with pytest.raises(RecipeError, match="--out says where to write"):
        examine.evaluate(full_run, Wanted(), tmp_path / "out")
    with pytest.raises(RecipeError, match=r"suite is unknown\. Did you mean 'suites'\?"):
        api.evaluate(full_run, suite=["task"])
