"""EWC in a training: what it needs, what it pulls, and where its Fisher information is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import toy
from tests.before import fills, stage
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Step
from tunesmith.train.log import lines


def test_it_needs_something_that_was_learned_before() -> None:
    with pytest.raises(RecipeError, match="ewc: no stage comes before this one, and no file is named"):
        toy.prepared({"regularizers": ["ewc"]})
    with pytest.raises(RecipeError, match="the head of this task is new"):
        toy.prepared({"regularizers": [{"name": "ewc", "data": "rows.csv"}]})


def test_the_penalty_is_zero_at_the_start_and_grows_with_what_matters(tmp_path: Path) -> None:
    toyed = stage({"regularizers": [{"name": "ewc", "strength": 2.0, "examples": 4}]}, folder=tmp_path)
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    step: Any = Step(toyed.training.model, toyed.recipe.task, None, share=0.5)  # type: ignore[arg-type]
    found = part.loss(step)
    assert found is not None and found.item() == 0
    with torch.no_grad():
        for parameter in toyed.training.model.parameters():
            parameter += 0.5
    information = load_file(tmp_path / "fisher.safetensors")
    expected = 0.5 * 2.0 / 2 * sum(float(one.sum()) for one in information.values()) * 0.25
    found = part.loss(step)
    assert found is not None and found.item() == pytest.approx(expected, rel=1e-4) and expected > 0


def test_it_is_taken_once_for_a_run(tmp_path: Path) -> None:
    values = {"regularizers": [{"name": "ewc", "examples": 2}], "train": {"steps": 1}}
    toy.train(stage(values, folder=tmp_path), tmp_path / "one")
    before = (tmp_path / "fisher.safetensors").stat().st_mtime_ns
    toy.train(stage(values, folder=tmp_path), tmp_path / "two")
    assert (tmp_path / "fisher.safetensors").stat().st_mtime_ns == before


def test_a_strong_pull_keeps_what_matters(tmp_path: Path) -> None:
    moved: list[float] = []
    information: dict[str, torch.Tensor] = {}
    for strength in (1e4, 0.0):
        values = {
            "regularizers": [{"name": "ewc", "strength": strength, "examples": 8}],
            "train": {"steps": 10, "learning_rate": 3e-3, "weight_decay": 0.0},
        }
        toyed = stage(values, folder=tmp_path)
        before = toy.weights(toyed)
        toy.train(toyed, tmp_path / str(strength))
        after = toy.weights(toyed)
        information = load_file(tmp_path / "fisher.safetensors")
        moved.append(sum((one * (after[name] - before[name]) ** 2).sum().item() for name, one in information.items()))
    assert moved[0] < moved[1] / 2


def test_shortcuts_change_no_number(tmp_path: Path) -> None:
    found = []
    for name, speed in (("plain", "plain"), ("fast", {}), ("rows", {"shortcuts": "plain", "touched_rows": True})):
        values = {
            "regularizers": [{"name": "ewc", "strength": 1e3, "examples": 6}],
            "train": {"steps": 6, "learning_rate": 1e-3, "weight_decay": 0.1, "log_every": 1},
            "speed": speed,
        }
        (tmp_path / name).mkdir()
        toyed = stage(values, folder=tmp_path / name)
        toy.quiet(toyed.training.model)
        toy.train(toyed, tmp_path / name / "run")
        steps = [line["losses"] for line in lines(tmp_path / name / "run" / "metrics.jsonl") if line["event"] == "step"]
        found.append([*(one["ewc"] for one in steps), *(one["supervised"] for one in steps)])
        assert [table.live for table in toyed.training.optimizer.tables.values()] == [True] * (name != "plain")  # type: ignore[attr-defined]
    information = [load_file(tmp_path / name / "fisher.safetensors") for name in ("plain", "fast")]
    largest = max(float(one.max()) for one in information[0].values())
    for key, one in information[0].items():
        torch.testing.assert_close(information[1][key], one, rtol=1e-4, atol=1e-6 * largest)
    assert found[0][5] > 1e-5
    assert found[1] == pytest.approx(found[0], rel=1e-3) and found[2] == pytest.approx(found[0], rel=1e-3)


def test_a_language_model_tells_by_a_file_what_matters(tmp_path: Path) -> None:
    toyed = fills(tmp_path, {"name": "ewc", "examples": 3})
    assert toy.train(toyed, tmp_path / "run")


def test_a_delta_has_nothing_to_pull(tmp_path: Path) -> None:
    toyed = stage({"method": "lora", "regularizers": ["ewc"], "train": {"steps": 1}}, folder=tmp_path)
    assert toy.train(toyed, tmp_path / "run")
    assert not (tmp_path / "fisher.safetensors").exists()
