"""Further suites on a finished run, on its own splits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith import cli, remeasure
from tunesmith.core.errors import DataError, RecipeError, RunFolderError
from tunesmith.core.files import read_json
from tunesmith.core.finished import Finished
from tunesmith.core.notes import listening
from tunesmith.core.panel import Result
from tunesmith.evaluate.calibration import Calibration
from tunesmith.evaluate.task import Task
from tunesmith.train import loop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.run(tmp_path_factory.mktemp("again"), train={"epochs": 1})


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run"


def test_what_a_suite_finds_stands_beside_what_was_there(own: Path) -> None:
    before, predictions = read_json(own / "evaluation.json"), (own / "predictions" / "test.jsonl").read_bytes()
    page = (own / "report.html").read_text()
    found = remeasure.suites(own, ["calibration"])
    after = read_json(own / "evaluation.json")
    assert list(after["suites"]) == ["task", "calibration"] and list(found["suites"]) == ["calibration"]
    assert after == {**before, "suites": after["suites"]} and after["suites"]["task"] == before["suites"]["task"]
    assert after["suites"]["calibration"]["figures"] and (own / "report.html").read_text() != page
    assert (own / "predictions" / "test.jsonl").read_bytes() == predictions
    # Measured again, it is the same.
    remeasure.suites(own, ["task"])
    assert read_json(own / "evaluation.json") == after


def test_where_a_suite_fails_the_old_figures_stay(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, finished: Finished) -> Result:
        raise ValueError("no such thing")

    before = read_json(own / "evaluation.json")
    monkeypatch.setattr(Task, "measure", broken)
    monkeypatch.setattr(Calibration, "measure", broken)
    with listening() as notes:
        remeasure.suites(own, ["task", "calibration"])
    after = read_json(own / "evaluation.json")["suites"]
    assert after["task"] == before["suites"]["task"] and after["calibration"]["failed"] == "ValueError: no such thing"
    assert "What was measured before stays: task." in notes


def test_a_suite_may_train_again_and_be_interrupted(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Any, finished: Finished) -> Result:
        assert finished.again is not None
        return Result(failed=f"{finished.again('more', {'train': {'seed': 1}}).trained}")

    monkeypatch.setattr(Calibration, "measure", measure)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", lambda *given: False)
        assert cli.main(["evaluate", str(own), "--suite", "calibration"]) == 130
    assert "calibration" not in read_json(own / "evaluation.json")["suites"]
    assert cli.main(["evaluate", str(own), "--suite", "calibration"]) == 0
    assert int(read_json(own / "evaluation.json")["suites"]["calibration"]["failed"]) > 1000
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", None)
        remeasure.suites(own, ["calibration"])


def test_without_its_stages_or_its_rows_it_is_told(own: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No suite is called 'tsk'"):
        remeasure.suites(own, ["tsk"])
    recipe = (own / "recipe.yaml").read_text()
    rows = tmp_path / "rows.csv"
    shutil.copy(folder.parent / "rows.csv", rows)
    (own / "recipe.yaml").write_text(recipe.replace(str(folder.parent / "rows.csv"), str(rows)))
    rows.write_text(rows.read_text() + "amber,no\n")
    with pytest.raises(RunFolderError, match="The data changed"):
        remeasure.suites(own, ["task"])
    rows.unlink()
    with pytest.raises(DataError) as caught:
        remeasure.suites(own, ["task"])
    assert "--data" in caught.value.hint
    (own / "evaluation.json").unlink()
    with pytest.raises(RunFolderError, match="is not finished"):
        remeasure.suites(own, ["task"])


def test_what_was_trained_together_is_not_trained_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def measure(self: Any, finished: Finished) -> Result:
        seen.append(finished.again)
        return Result()

    rows = toy.write_csv(tmp_path / "rows.csv")
    data = {"train": str(rows), "validation": 0.2, "test": 0.2}
    monkeypatch.setattr(Task, "measure", measure)
    run = toy.api.train(
        {
            "model": "builtin:tiny-bert",
            "tasks": {name: {"task": "classify", "data": data} for name in ("one", "two")},
            "train": {"epochs": 1, "device": "cpu", "precision": "float32"},
        },
        out=tmp_path / "run",
    )
    with listening() as notes:
        remeasure.suites(run.folder / "one", ["task"])
    assert seen == [None, None, None]
    assert "The run was trained together with other tasks: no suite trains it again." in notes
    assert json.loads((run.folder / "one" / "evaluation.json").read_text())["suites"]["task"]["figures"] == []
