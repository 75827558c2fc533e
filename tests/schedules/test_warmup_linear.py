"""Linear warm-up and decay."""

import pytest
import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

from tests import toy
from tunesmith.core import registry
from tunesmith.core.errors import RecipeError
from tunesmith.recipe import from_values
from tunesmith.schedules.warmup_linear import WarmupLinear, factor


def test_zero_at_the_start_one_at_the_warm_ups_end_zero_after_the_last() -> None:
    found = [factor(step, 20, 0.25) for step in range(21)]
    assert found[0] == 0 and found[5] == 1 and found[20] == 0
    assert max(found) == 1 and found.count(1) == 1
    # By hand: 2 of 5 updates of the warm-up are done; 5 of the 15 after it.
    assert found[2] == pytest.approx(2 / 5) and found[10] == pytest.approx(10 / 15)


@pytest.mark.parametrize(("total", "warmup", "steps"), [(100, 0.1, 10), (37, 0.3, 12), (1000, 0.06, 60)])
def test_every_step_is_that_of_transformers(total: int, warmup: float, steps: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, steps, total).lr_lambdas[0]
    assert [factor(step, total, warmup) for step in range(total + 1)] == pytest.approx(
        [theirs(step) for step in range(total + 1)]
    )


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.1), (1, 0.9), (3, 0.9), (2, 0.0)])
def test_short_trainings_have_a_rate(total: int, warmup: float) -> None:
    found = [factor(step, total, warmup) for step in range(total + 1)]
    assert all(0 <= value <= 1 for value in found) and found[total] == 0
    assert factor(0, total, 0.0) == 1


def test_every_group_keeps_its_own_peak() -> None:
    training = toy.prepared({"train": {"steps": 4, "learning_rate": 0.1}}).training
    training.optimizer.param_groups[1]["peak"] = 0.3
    schedule = WarmupLinear(warmup=0.5)
    schedule.setup(training)
    assert [group["lr"] for group in training.optimizer.param_groups] == [0, 0]
    training.step = 1
    schedule.after_step(training)
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([0.05, 0.15])


def test_it_is_the_rate_where_a_recipe_names_none() -> None:
    values = {"data": "rows.csv", "task": "classify"}
    assert [part.word() for part in from_values(values).schedules] == ["warmup_linear"]
    assert [part.word() for part in from_values(values | {"schedules": ["early_stop"]}).schedules] == [
        "warmup_linear",
        "early_stop",
    ]


def test_two_that_set_the_rate_are_refused() -> None:
    with pytest.raises(RecipeError, match="warmup_linear and warmup_cosine both set the learning rate"):
        from_values({"data": "rows.csv", "task": "classify", "schedules": ["warmup_linear", "warmup_cosine"]})


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 10])
def test_a_share_out_of_range_is_refused(warmup: float) -> None:
    with pytest.raises(RecipeError, match="warmup"):
        registry.build("schedules", {"name": "warmup_linear", "warmup": warmup})
