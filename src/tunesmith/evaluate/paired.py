"""Tests of the difference between two models that answered the same rows, and what several tests at once ask for.

A test gives p: how probable a difference at least as large as the one seen would be, were the two models alike. Sides
are not told apart. What is drawn at random depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy
from tunesmith.evaluate import stats
from tunesmith.evaluate.stats import CONFIDENCE, Metrics

scipy: Any = Lazy("scipy.stats")

FLIPS = 9999
EXACT = 13
"""Up to so many rows that differ, all choices of signs are counted: 8,192."""
POWER = 0.8
TRIED = 64
"""Rows on which it is first seen whether a metric is a mean over rows at all."""
AT_ONCE = 1 << 22
ROUNDING = 1e-12
"""Sums that differ by less than this share are equal: adding in another order must not change a p-value."""


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """p of McNemar's exact test that two models, right or wrong on each row [rows], are right equally often.

    Of the b + c rows on which only one of the two is right, either is it with probability 1/2: p is that of a binomial
    test. Paper: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    1947; exact as in Dietterich, "Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms", 1998.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    count = only_first + only_second
    return float(scipy.binomtest(only_first, count).pvalue) if count else 1.0


def sign_flip(differences: np.ndarray, seed: int) -> float:
    """p of the permutation test that the mean of rows' differences [rows] is 0.

    Were the models alike, every difference might as well have the other sign. Where at most EXACT rows differ all signs
    are counted: p = share of them with |sum| at least as large as the one seen; else FLIPS are drawn, and
    p = (1 + as large) / (1 + FLIPS). Paper: Fisher, "The Design of Experiments", 1935; Noreen, "Computer-Intensive
    Methods for Testing Hypotheses", 1989.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    bound = abs(moved.sum()) - ROUNDING * np.abs(moved).sum()
    if len(moved) <= EXACT:
        sums = np.array(list(product((-1.0, 1.0), repeat=len(moved)))) @ moved
        return float((np.abs(sums) >= bound).mean())
    draw = np.random.default_rng(seed)
    block = max(1, AT_ONCE // len(moved))
    as_large = 0
    for begun in range(0, FLIPS, block):
        signs = draw.integers(0, 2, (min(block, FLIPS - begun), len(moved)), dtype=np.int8)
        as_large += int((np.abs((2 * signs - 1) @ moved) >= bound).sum())
    return (1 + as_large) / (1 + FLIPS)


def swapped(metric: Callable[[np.ndarray], float], first: np.ndarray, second: np.ndarray, seed: int) -> float:
    """p of the randomisation test of a metric that is no mean over rows: F1, a correlation, a perplexity.

    Were the models alike, their answers to a row [rows, …] might as well be exchanged: on each of `stats.RESAMPLES`
    draws those of every row are, with probability 1/2. p = (1 + as large) / (1 + draws); a draw on which the metric is
    undefined counts as large. Paper: Yeh, "More accurate tests for the statistical significance of result
    differences", 2000.
    """
    seen = abs(metric(first) - metric(second))
    draw = np.random.default_rng(seed)
    as_large = 0
    for _ in range(stats.RESAMPLES):
        places = draw.integers(0, 2, len(first)).astype(bool)
        one, other = first.copy(), second.copy()
        one[places], other[places] = second[places], first[places]
        as_large += not abs(metric(one) - metric(other)) < seen * (1 - ROUNDING)
    return (1 + as_large) / (1 + stats.RESAMPLES)


def holm(found: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected so that the chance of even one false finding among all is bounded.

    Formula: ordered from the smallest, p'(i) = max over j <= i of min(1, (m - j + 1) p(j)), with m tests. Paper: Holm,
    "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    corrected, largest = [0.0] * len(found), 0.0
    for rank, place in enumerate(sorted(range(len(found)), key=found.__getitem__)):
        largest = max(largest, min(1.0, (len(found) - rank) * found[place]))
        corrected[place] = largest
    return corrected


def smallest(error: float, tests: int = 1, freedom: float = np.inf) -> float:
    """The smallest true difference that such a test finds with probability POWER, two-sided, at the level 0.05 shared
    by `tests` tests.

    Formula: (t(1 - 0.05 / 2m) + t(POWER)) e, with e the standard error of the difference and t the quantiles of
    Student's distribution with `freedom` degrees (the normal one where infinite).
    """
    level = (1 - CONFIDENCE) / 2 / max(1, tests)
    return float((scipy.t.ppf(1 - level, freedom) + scipy.t.ppf(POWER, freedom)) * error)


def by_row(metrics: Metrics, name: str, truths: np.ndarray, answers: np.ndarray) -> np.ndarray | None:
    """The metric `name` of each row alone [rows]; None where the metric of all rows is not the mean of these."""
    for count in sorted({min(TRIED, len(truths)), len(truths)}):
        places = [slice(place, place + 1) for place in range(count)]
        # A metric that is undefined on one row says so by NaN, or can't divide.
        with np.errstate(all="ignore"):
            try:
                found = np.array([metrics(truths[one], answers[one]).get(name, np.nan) for one in places])
            except (ArithmeticError, ValueError):
                return None
            whole = metrics(truths[:count], answers[:count])[name]
        if not np.isclose(found.mean(), whole, rtol=1e-9, atol=1e-12):
            return None
    return found
