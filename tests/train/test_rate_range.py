"""A rate that grows, and the rate that is named from its losses."""

from __future__ import annotations

import math

import pytest

from tests import toy
from tunesmith.train.rate_range import RateRange, chosen, is_over, smoothed


def test_rates_grow_by_a_constant_factor() -> None:
    part = RateRange(base=1.0, lowest=1e-4, highest=1.0)
    assert [part.rate(step, 5) for step in range(6)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1, 1])
    training = toy.prepared({"train": {"steps": 5, "learning_rate": 0.5}}).training
    training.step = 2
    RateRange(base=0.5, lowest=1e-4, highest=1.0).after_step(training)
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([1e-2, 1e-2])


def test_the_smoothed_loss_by_hand() -> None:
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2, 2, 2])
    assert smoothed([1.0, 3.0]) == pytest.approx([1, (0.9 * 0.1 * 1 + 0.1 * 3) / (1 - 0.81)])


def test_the_steepest_fall_is_named() -> None:
    rates = [10 ** (-6 + place / 10) for place in range(60)]
    # Flat, then a fall around the 30th rate, then a rise.
    losses = [1 / (1 + math.exp((place - 30) / 2)) + (0.3 * (place - 45) if place > 45 else 0) for place in range(60)]
    rate, reason = chosen(rates, losses)
    assert rate is not None and rates[29] <= rate <= rates[38]
    assert reason.startswith("there the loss falls fastest, on its way from 1 at 1e-06") and "it rises" in reason


def test_no_rate_is_named_where_the_loss_does_not_fall() -> None:
    rates = [1e-4, 1e-3, 1e-2]
    assert chosen(rates, [1.0, 1.0, 1.0]) == (
        None,
        "the loss, 1 at first, does not fall at any rate from 0.0001 to 0.01",
    )
    assert chosen(rates, [1.0, 2.0, 3.0])[0] is None


def test_it_is_over_when_the_loss_has_grown() -> None:
    assert not is_over([1.0]) and not is_over([1.0, 1.5, 1.0])
    assert is_over([1.0, 0.5, 20.0]) and is_over([1.0, math.nan])
