"""Figures over seeds, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tunesmith.evaluate import seeds


def test_the_interval_of_a_mean_is_students() -> None:
    # s = 1, n = 3, t with two degrees of freedom is 4.302653 (any table).
    low, high = seeds.mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-5)
    assert math.isnan(seeds.mean_interval([1.0])[0]) and math.isnan(seeds.deviation([1.0]))
    draw = np.random.default_rng(0)
    held = [low <= 0.3 <= high for low, high in (seeds.mean_interval(draw.normal(0.3, 1, 4)) for _ in range(600))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_the_interval_of_a_share_is_clopper_and_pearsons() -> None:
    # For none of n the upper end solves (1 - p)^n = 0.025.
    assert seeds.share_interval(0, 5) == pytest.approx((0.0, 1 - 0.025**0.2))
    assert seeds.share_interval(5, 5) == pytest.approx((0.025**0.2, 1.0))


def test_the_expected_best_by_hand() -> None:
    # Of two draws from 1, 2, 3: nine pairs, whose maxima are 1 once, 2 three times, 3 five times.
    assert seeds.expected_best([3.0, 1.0, 2.0]) == pytest.approx([2.0, 22 / 9, 2 + 2 / 3], abs=1e-12)
    assert seeds.expected_best([3.0, 1.0, 2.0], higher_is_better=False)[:2] == pytest.approx([2.0, 14 / 9])
    assert seeds.expected_best([0.5, 0.5]) == pytest.approx([0.5, 0.5])
    draw = np.random.default_rng(0)
    values = [0.1, 0.7, 0.4, 0.9]
    drawn = draw.choice(values, (20000, 3)).max(axis=1).mean()
    assert seeds.expected_best(values)[2] == pytest.approx(drawn, abs=0.01)


def test_a_run_is_failed_that_is_no_better_than_a_constant() -> None:
    assert seeds.is_failed(0.5, 0.5) and seeds.is_failed(math.nan, 0.5) and not seeds.is_failed(0.51, 0.5)
    assert seeds.is_failed(2.0, 1.0, higher_is_better=False) and not seeds.is_failed(0.9, 1.0, higher_is_better=False)


def test_equal_spread_is_levenes() -> None:
    first, second = [0.1, 0.5, 0.9, 0.2], [0.5, 0.51, 0.52, 0.49]
    assert seeds.same_spread(first, second) == pytest.approx(stats.levene(first, second, center="median").pvalue)
    assert math.isnan(seeds.same_spread([0.1, 0.2], first)) and math.isnan(seeds.same_spread([1.0] * 3, [2.0] * 3))
