"""Linear warm-up, then half a cosine."""

import math

import pytest
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from tests import toy
from tunesmith.schedules.warmup_cosine import WarmupCosine, factor


def test_by_hand() -> None:
    found = [factor(step, 20, 0.2) for step in range(21)]
    assert found[0] == 0 and found[4] == 1 and found[20] == pytest.approx(0, abs=1e-12)
    assert max(found) == 1 and found.count(1) == 1
    assert found[1] == pytest.approx(1 / 4)
    # Midway through the rest one half; a quarter through (1 + sqrt(1/2)) / 2.
    assert found[12] == pytest.approx(1 / 2) and found[8] == pytest.approx((1 + math.sqrt(0.5)) / 2)


@pytest.mark.parametrize(("total", "warmup", "steps"), [(100, 0.1, 10), (37, 0.3, 12), (1000, 0.06, 60)])
def test_every_step_is_that_of_transformers(total: int, warmup: float, steps: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, steps, total).lr_lambdas[0]
    assert [factor(step, total, warmup) for step in range(total + 1)] == pytest.approx(
        [theirs(step) for step in range(total + 1)], abs=1e-12
    )


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.1), (1, 0.9), (3, 0.9), (2, 0.0)])
def test_short_trainings_have_a_rate(total: int, warmup: float) -> None:
    found = [factor(step, total, warmup) for step in range(total + 1)]
    assert all(0 <= value <= 1 for value in found) and found[total] == pytest.approx(0, abs=1e-12)
    assert factor(0, total, 0.0) == 1


def test_every_group_keeps_its_own_peak() -> None:
    training = toy.prepared({"train": {"steps": 4, "learning_rate": 0.1}}).training
    training.optimizer.param_groups[1]["peak"] = 0.3
    training.step = 2
    WarmupCosine(warmup=0.0).after_step(training)
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([0.05, 0.15])
