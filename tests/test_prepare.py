"""From a recipe to what a training needs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith import prepare
from tunesmith.core.errors import RecipeError
from tunesmith.core.notes import listening
from tunesmith.recipe import from_values
from tunesmith.train import precision

LEAST: dict[str, Any] = {"data": "rows.csv", "task": "classify", "model": "builtin:tiny-bert"}


def test_what_is_left_open_is_settled_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "choose_device", lambda wanted: "cpu")
    monkeypatch.setattr(precision, "choose_precision", lambda wanted, device: "float32")
    with listening() as notes:
        settled = prepare.settle(from_values(LEAST | {"method": "lora"})).train
    assert (settled.device, settled.precision, settled.learning_rate) == ("cpu", "float32", 2e-3)
    assert notes == ["Device cpu, precision float32, learning rate 0.002."]
    assert prepare.settle(from_values(LEAST | {"train": {"learning_rate": 0.1}})).train.learning_rate == 0.1


@pytest.mark.parametrize(
    ("train", "updates"),
    [
        ({"epochs": 3}, 9),  # ten rows in updates of four: three an epoch
        ({"epochs": 0.5}, 2),
        ({"epochs": 0.01}, 1),
        ({"epochs": 1.0 / 3}, 1),
        ({"steps": 7, "epochs": 3}, 7),
        ({"epochs": 1, "batch_size": 16}, 1),
        ({"epochs": 1, "batch_size": 4, "micro_batch_size": 1}, 3),
    ],
)
def test_updates_are_counted(train: dict[str, Any], updates: int) -> None:
    assert toy.prepared({"train": train}, count=10).training.total_steps == updates


@pytest.mark.parametrize(("method", "rate"), [("full", 5e-5), ("lora", 2e-3), ("head_only", 1e-2)])
def test_the_rate_is_the_methods_own(method: str, rate: float) -> None:
    optimizer = toy.prepared({"method": method}).training.optimizer
    assert {group["peak"] for group in optimizer.param_groups} == {rate}


def test_the_parameters_that_train_are_said() -> None:
    with listening() as notes:
        toy.prepared({"method": "head_only", "train": {"steps": 5}})
    assert "99 of 30,755 parameters train (0.32 %), in 5 updates." in notes


def test_a_limit_that_the_model_has_not_is_refused() -> None:
    toy.prepared({"task": {"name": "classify", "max_length": 128}})
    with pytest.raises(RecipeError, match=r"129 is more than builtin:tiny-bert can read: 128 tokens"):
        toy.prepared({"task": {"name": "classify", "max_length": 129}})


def test_evaluations_that_never_come_are_refused() -> None:
    recipe = from_values(LEAST | {"schedules": ["early_stop"]})
    without: Any = SimpleNamespace(validation=None)
    with pytest.raises(RecipeError, match="early_stop acts on evaluations"):
        prepare.check_fit(recipe, without)
    prepare.check_fit(recipe, SimpleNamespace(validation=[]))  # type: ignore[arg-type]
    prepare.check_fit(from_values(LEAST), without)


def test_the_global_random_numbers_start_from_the_seed() -> None:
    draws = []
    for seed in (3, 3, 4):
        torch.rand(5)
        toy.prepared({"train": {"seed": seed}})
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[1] != draws[2]


def test_runs_in_another_precision_may_follow_each_other() -> None:
    kinds = ("float32", "bfloat16", "float32")
    found = [toy.prepared({"train": {"precision": kind}}).accelerator.mixed_precision for kind in kinds]
    assert found == ["no", "bf16", "no"]
