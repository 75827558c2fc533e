"""A sequence of stages: every earlier test split is answered again, with its own head over the new body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith import continual, stages
from tunesmith.core.files import write_json


def sequence(folder: Path, **more: Any) -> dict[str, Any]:
    rows = str(toy.write_csv(folder / "rows.csv"))
    return {
        "model": "builtin:tiny-bert",
        "data": {"train": rows, "test": 0.3, "near_duplicates": False},
        "train": {"epochs": 1, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu", "precision": "float32"},
        "task": {"name": "classify", "text": "text", "label": "label"},
        **more,
    }


def run(folder: Path, given: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    done = stages.start(stages.read(sequence(folder, stages=given, **more)), folder / "run")
    assert done.finished
    found: dict[str, Any] = json.loads((folder / "run" / continual.FILE).read_text())
    return found


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_matrix_of_two_stages(method: str, tmp_path: Path) -> None:
    found = run(tmp_path, [{}, {"train": {"epochs": 2}}], method=method)
    first, second = found["stages"].values()
    assert set(first["row"]) == {"1-classify"} and set(second["row"]) == {"1-classify", "2-classify"}
    own = json.loads((tmp_path / "run" / "2-classify" / "evaluation.json").read_text())["suites"]["task"]["figures"]
    value = next(
        one["value"] for one in own if (one["name"], one["split"], one["subject"]) == ("accuracy", "test", "model")
    )
    assert second["row"]["2-classify"] == value
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Test metric of every task after every stage" in page and "forgetting" in page


def test_a_stage_that_trains_nothing_forgets_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, [{}, {"method": "head_only"}])
    first, second = found["stages"].values()
    assert second["row"]["1-classify"] == pytest.approx(first["row"]["1-classify"])
    assert continual.summary(found["stages"])["forgetting"] == pytest.approx(0)


def test_old_examples_and_answers_help_in_a_later_stage(tmp_path: Path) -> None:
    helped = {"regularizers": [{"name": "replay", "share": 0.5}, {"name": "distill"}, {"name": "ewc", "examples": 4}]}
    found = run(tmp_path, [{}, helped])
    assert set(found["stages"]["2-classify"]["row"]) == {"1-classify", "2-classify"}
    assert (tmp_path / "run" / "2-classify" / "fisher.safetensors").is_file()


def test_less_is_better_turns_the_sign() -> None:
    stages_ = {
        "1-a": {"higher_is_better": False, "row": {"1-a": 1.0}},
        "2-b": {"higher_is_better": True, "row": {"1-a": 3.0, "2-b": 0.5}},
    }
    found = continual.summary(stages_)
    assert found["forgetting"] == 2 and found["backward transfer"] == -2 and found["average"] == -1.25


def test_a_stage_without_a_test_split_is_left_out(tmp_path: Path) -> None:
    write_json(
        tmp_path / continual.FILE, {"stages": {"1-fill": {"metric": "accuracy", "higher_is_better": True, "row": {}}}}
    )
    continual.report(tmp_path)
    assert "No stage has a test split" in (tmp_path / "report.html").read_text(encoding="utf-8")
