"""Groups of runs against SciPy's t-tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp, ttest_ind, ttest_rel

from tunesmith.evaluate import over_seeds

FIRST = {0: 0.81, 1: 0.84, 2: 0.80, 3: 0.83}
SECOND = {0: 0.79, 1: 0.80, 2: 0.795, 3: 0.80}


def test_the_mean_has_students_interval() -> None:
    middle, span = over_seeds.mean(list(FIRST.values()))
    expected = ttest_1samp(list(FIRST.values()), 0).confidence_interval()
    assert middle == pytest.approx(0.82) and span == pytest.approx((expected.low, expected.high))


def test_with_the_same_seeds_they_are_paired() -> None:
    found = over_seeds.compared(FIRST, dict(reversed(SECOND.items())))
    expected = ttest_rel(list(FIRST.values()), list(SECOND.values()))
    assert "paired by seed" in found.test
    assert found.p == pytest.approx(expected.pvalue)
    assert found.span == pytest.approx(tuple(expected.confidence_interval()))


def test_with_other_seeds_welch() -> None:
    other = {seed + 10: value for seed, value in list(SECOND.items())[:3]}
    found = over_seeds.compared(FIRST, other)
    expected = ttest_ind(list(FIRST.values()), list(other.values()), equal_var=False)
    assert "Welch" in found.test
    assert found.p == pytest.approx(expected.pvalue)
    assert found.span == pytest.approx(tuple(expected.confidence_interval()))


def test_one_run_is_judged_by_the_spread_of_the_others() -> None:
    found = over_seeds.compared({7: 0.9}, FIRST)
    # By hand: the prediction interval of one more run.
    error = float(np.std(list(FIRST.values()), ddof=1)) * math.sqrt(1 + 1 / 4)
    assert found.value == pytest.approx(0.08)
    assert found.p == pytest.approx(2 * t.sf(0.08 / error, 3))
    assert over_seeds.compared(FIRST, {7: 0.9}).value == pytest.approx(-0.08)


def test_runs_that_are_all_alike() -> None:
    equal = dict.fromkeys(range(3), 0.7)
    assert over_seeds.compared(equal, equal).p == 1
    assert over_seeds.compared(equal, dict.fromkeys(range(3), 0.8)).p == 0
    assert over_seeds.compared(equal, dict.fromkeys(range(5, 8), 0.7)).p == 1
