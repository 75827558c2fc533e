"""Pairs of runs: the right test for each metric, and differences that point to the better one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, ttest_rel

from tunesmith.core.panel import Figure
from tunesmith.evaluate import duels, paired
from tunesmith.evaluate.shared import Answered
from tunesmith.tasks.classify import Classify
from tunesmith.tasks.regress import Regress


def classified(share: float, seed: int, rows: int = 200) -> Answered:
    task = Classify()
    task.learn({"label": name} for name in "abc")
    truths = np.random.default_rng(0).integers(0, 3, rows)
    right = np.random.default_rng(seed).random(rows) < share
    return Answered(task, truths, np.where(right, truths, (truths + 1) % 3))


def test_accuracies_are_compared_on_the_same_draws() -> None:
    good, poor = classified(0.9, 1), classified(0.7, 2)
    found = duels.on_rows({0: good, 4: poor}, "accuracy", 1)[0]
    first, second = (one.answers == one.truths for one in (good, poor))
    expected = bootstrap(
        (first * 1.0 - second,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    )
    assert (found.first, found.second, found.over, found.test) == (0, 4, "200 rows", duels.MCNEMAR)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert found.p == paired.mcnemar(first, second)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.015)
    assert found.error == pytest.approx(expected.standard_error, rel=0.1)


def test_another_metric_is_tested_by_swapping() -> None:
    found = duels.on_rows({0: classified(0.9, 1), 1: classified(0.7, 2)}, "macro_f1", 1)[0]
    assert found.test == duels.SWAPS and found.p < 0.01 and found.low > 0


def test_lower_may_be_better() -> None:
    task, draw = Regress(), np.random.default_rng(0)
    task.learn({"score": float(value)} for value in range(5))
    truths = draw.normal(size=100)
    near, far = (Answered(task, truths, truths + draw.normal(0, spread, 100)) for spread in (0.1, 1))
    found = duels.on_rows({0: near, 1: far}, "rmse", -1)[0]
    assert found.difference > 0 and found.low > 0 and found.test == duels.SWAPS


def test_three_runs_are_three_pairs_and_cost_more_certainty() -> None:
    runs = {number: classified(share, number) for number, share in enumerate((0.9, 0.85, 0.6))}
    found = duels.adjusted(duels.on_rows(runs, "accuracy", 1))
    assert [(one.first, one.second) for one in found] == [(0, 1), (0, 2), (1, 2)]
    assert [one.adjusted for one in found] == paired.holm([one.p for one in found])
    assert [one.found for one in found] == [False, True, True]
    assert found[0].smallest == pytest.approx(paired.smallest(found[0].error, 3))


def test_equal_answers_differ_in_nothing() -> None:
    found = duels.adjusted(duels.on_rows({0: classified(0.8, 1), 1: classified(0.8, 1)}, "accuracy", 1))[0]
    assert (found.difference, found.p, found.smallest, found.found) == (0, 1, None, False)


def test_groups_by_seed() -> None:
    first, second = {0: 0.8, 1: 0.9, 2: 0.85}, {0: 0.7, 1: 0.75, 2: 0.77}
    found = duels.over_runs((0, first), (1, second), 1)
    assert found.over == "3 seeds" and found.p == pytest.approx(
        ttest_rel(list(first.values()), list(second.values())).pvalue
    )
    lower = duels.over_runs((0, first), (1, second), -1)
    assert lower.difference == -found.difference and lower.low == pytest.approx(-found.high)
    assert duels.over_runs((0, first), (1, {9: 0.7}), 1).over == "4 runs"


def test_figures_of_different_rows_by_hand() -> None:
    # Two intervals of half width 0.03 and 0.04: that of the difference has 0.05.
    first, second = Figure("accuracy", 0.8, low=0.77, high=0.83), Figure("accuracy", 0.9, low=0.86, high=0.94)
    found = duels.on_figures((0, first), (1, second), 1)
    assert found is not None and (found.low, found.high) == pytest.approx((-0.15, -0.05))
    assert found.p == pytest.approx(2 * norm.sf(0.1 / (0.05 / norm.ppf(0.975))))
    assert duels.on_figures((0, first), (1, Figure("accuracy", 0.9)), 1) is None
    assert not math.isnan(found.error)
