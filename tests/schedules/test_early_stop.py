"""Early stopping on sequences of metrics; that the loop keeps and restores the best is in tests/train/test_loop.py."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests import toy
from tunesmith import prepare
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Training
from tunesmith.schedules.early_stop import EarlyStop


def watched(values: list[float], task: str = "classify", name: str = "accuracy", **settings: Any) -> tuple[str, int]:
    """Which evaluations were kept (as `k`) and at which the training stopped (0: at none)."""
    training = toy.prepared({"task": task}).training
    part, kept = EarlyStop(**settings), ""
    for number, value in enumerate(values, start=1):
        part.after_eval(training, {name: value, "loss": 0.0} if name != "loss" else {"accuracy": 0.0, "loss": value})
        kept += "k" if training.keep else "-"
        training.keep = False
        if training.stop:
            return kept, number
    return kept, 0


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ([0.5, 0.6, 0.7], {}, ("kkk", 0)),
        ([0.5, 0.6, 0.6, 0.6, 0.9], {}, ("kk--", 4)),  # equal is no improvement
        ([0.5, 0.4, 0.6, 0.5, 0.5], {}, ("k-k--", 5)),  # an improvement starts the wait anew
        ([0.5, 0.4], {"patience": 1}, ("k-", 2)),
        ([0.5, 0.4, 0.4, 0.4], {"patience": 3}, ("k---", 4)),
        ([0.50, 0.54, 0.58, 0.59], {"margin": 0.05}, ("k-k-", 0)),  # small gains add up against the best kept one
        ([0.50, 0.54, 0.55], {"margin": 0.05}, ("k--", 3)),
    ],
)
def test_patience_and_margin(values: list[float], settings: dict[str, Any], expected: tuple[str, int]) -> None:
    assert watched(values, **settings) == expected


@pytest.mark.parametrize(("task", "name"), [("classify", "loss"), ("regress", "rmse")])
def test_loss_and_error_are_better_when_lower(task: str, name: str) -> None:
    assert watched([0.5, 0.4, 0.45, 0.41], task, name, metric=name) == ("kk--", 4)


def test_the_tasks_own_metric_is_watched() -> None:
    assert watched([0.1, 0.3, 0.2, 0.2], "regress", "pearson") == ("kk--", 4)


def test_a_metric_that_is_no_number_is_no_improvement() -> None:
    assert watched([math.nan, 0.3, math.nan, 0.2], "regress", "pearson") == ("-k--", 4)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"early_stop\.metric: there is no metric 'acuracy'\. Did you mean 'accuracy'"
    ):
        watched([0.5], metric="acuracy")


def test_without_a_validation_split_it_is_refused() -> None:
    toyed = toy.prepared({"schedules": ["early_stop"]})
    splits: Any = type("Splits", (), {"validation": None})
    with pytest.raises(RecipeError, match="early_stop acts on evaluations, but the recipe has no validation split"):
        prepare.check_fit(toyed.recipe, splits)


def test_the_reason_is_told() -> None:
    training: Training = toy.prepared({}).training
    part = EarlyStop(patience=1)
    for _ in range(2):
        part.after_eval(training, {"accuracy": 0.5})
    assert training.stop == "accuracy has not improved for 1 evaluations"
