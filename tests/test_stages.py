"""Several stages in one recipe."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import BertForSequenceClassification

import tunesmith
from tests import toy
from tunesmith import check, explain, stages
from tunesmith import run as runs
from tunesmith.core.errors import RecipeError, RunFolderError
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    rows = toy.write_csv(tmp_path / "rows.csv")
    return {
        "model": "builtin:tiny-bert",
        "task": "classify",
        "data": {"train": str(rows), "validation": 0.2, "test": 0.2},
        "train": {"steps": 2, "batch_size": 8, "device": "cpu", "precision": "float32"},
        "stages": [{"method": "lora", "train": {"learning_rate": 0.01}}, {}],
    }


def test_a_stage_stands_above_the_recipe(values: dict[str, Any]) -> None:
    first, second = stages.read(values)
    assert (first.method.word(), first.train.learning_rate, first.train.steps) == ("lora", 0.01, 2)
    assert (second.method.word(), second.train.learning_rate) == ("full", None)
    (alone,) = stages.read({key: value for key, value in values.items() if key != "stages"})
    assert alone.method.word() == "full"


def test_a_stage_starts_from_the_model_before_it(values: dict[str, Any], tmp_path: Path) -> None:
    run = tunesmith.train(values, out=tmp_path / "run")
    assert run.finished and run.folder == tmp_path / "run" / "2-classify"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "1-classify", "2-classify", "stages.yaml", "continual.json", "report.html",
    }  # fmt: skip
    merged = tmp_path / "run" / "1-classify" / "merged"
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["model"]["name"] == str(merged.resolve())
    # What the second starts from is what the first came to: the same figures before its training.
    answers = tunesmith.load(run.folder).predict(["amber basil"])
    assert answers[0]["prediction"] in toy.CLASSES


def test_a_stage_leaves_no_model_behind(values: dict[str, Any], tmp_path: Path) -> None:
    models: list[int] = []

    def watch(line: dict[str, Any]) -> None:
        if line["event"] == "start":
            models.append(sum(type(one) is BertForSequenceClassification for one in gc.get_objects()))

    # A schedule that holds the training to its end.
    kept = {**values, "stages": [{"schedules": [{"name": "unfreeze", "steps": 1}]}] * 3}
    gc.collect()
    stages.start(stages.read(kept), tmp_path / "run", watch)
    assert len(models) == 3 and len(set(models)) == 1


def test_stages_go_on_where_they_stopped(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tunesmith.train(values, out=tmp_path / "whole")
    asked = iter([False, False, False, True])
    monkeypatch.setattr(Interrupt, "asked", lambda self: next(asked, False))
    stopped = tunesmith.train({**values, "train": {**values["train"], "steps": 3}}, out=tmp_path / "run")
    assert not stopped.finished and stopped.folder == tmp_path / "run"
    done = tunesmith.resume(tmp_path / "run")
    assert done.finished and done.folder.name == whole.folder.name
    assert tunesmith.resume(whole.folder).finished  # one of its runs alone


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("two", "stages must be a list of mappings"),
        ([], "stages must be a list of mappings"),
        ([{}, {"model": "builtin:minilm"}], "Stage 2: model: 'builtin:minilm' is given, but a stage starts from"),
        ([{"method": "prompt"}, {}], "Stage 1: method: the next stage can't start from a delta of 'prompt'"),
        ([{"method": "lor"}, {"train": {"epoch": 1}}], "Stage 2: The recipe is wrong"),
    ],
)
def test_wrong_stages_are_refused(given: Any, told: str, values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        stages.read({**values, "stages": given})
    assert told in caught.value.message


def test_faults_of_stages_name_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("task: classify\ndata: rows.csv\nstages:\n  - {}\n  - train:\n      epoch: 1\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"Stage 2:.*\n.*line 6: train.epoch"):
        stages.read(path)


def test_check_and_explain_show_every_stage(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    found = check.check_all(stages.read(path))
    assert found.facts["1-classify updates"] == found.facts["2-classify updates"] == 2
    assert {panel.title.split(":")[0] for panel in found.panels} == {"1-classify", "2-classify"}
    assert {step[0][:2] for step in explain.explain(str(path)).steps} == {"1.", "2."}


def test_a_folder_that_holds_stages_is_not_written_over(values: dict[str, Any], tmp_path: Path) -> None:
    tunesmith.train(values, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match="nothing in it is touched"):
        tunesmith.train(values, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match="is not a run") as caught:
        tunesmith.load(tmp_path / "run")
    assert "2-classify" in caught.value.hint
    assert runs.Run(tmp_path / "run" / "2-classify", True).evaluation["title"].startswith("classify with full")
