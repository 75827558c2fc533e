"""Runs that differ in their seed alone: what they come to together, and how two such groups differ.

Here a run is one observation. The intervals say what another seed would do, and nothing about other rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy
from tunesmith.evaluate.stats import CONFIDENCE, Span

scipy: Any = Lazy("scipy.stats")

HIGH = 1 - (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Difference:
    """The difference of two means, its standard error, the degrees of freedom of Student's t, the test's name,
    and whether the means are of the same seeds.
    """

    value: float
    error: float
    freedom: float
    test: str
    paired: bool = False

    @property
    def span(self) -> Span:
        """The interval: value ± t(0.975) error."""
        half = float(scipy.t.ppf(HIGH, self.freedom)) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided; where all values are equal, 1 without a difference and 0 with one."""
        if self.error == 0:
            return float(self.value == 0)
        return float(2 * scipy.t.sf(abs(self.value / self.error), self.freedom))


def mean(values: Sequence[float]) -> tuple[float, Span]:
    """The mean of runs and its interval: mean ± t(0.975, n - 1) s / sqrt(n) (Student, 1908)."""
    middle = float(np.mean(values))
    half = float(scipy.t.ppf(HIGH, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return middle, (middle - half, middle + half)


def compared(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """The mean of `first` less that of `second`, both by seed.

    With the same seeds by the t-test on each seed's difference; with others by Welch's, which lets the two groups
    spread differently ("The generalization of 'Student's' problem", 1947). A group of one run has no spread of its own:
    it is taken to be that of the other group, s sqrt(1 + 1/n).
    """
    value = float(np.mean(list(first.values())) - np.mean(list(second.values())))
    if set(first) == set(second):
        each = [first[seed] - second[seed] for seed in first]
        return Difference(value, _spread(each) / math.sqrt(len(each)), len(each) - 1, "t-test, paired by seed", True)
    if min(len(first), len(second)) == 1:
        group = list(max(first, second, key=len).values())
        error = _spread(group) * math.sqrt(1 + 1 / len(group))
        return Difference(value, error, len(group) - 1, "t-test of one run against the spread of the other's seeds")
    parts = [_spread(list(one.values())) ** 2 / len(one) for one in (first, second)]
    total = sum(parts)
    below = sum(part**2 / (len(one) - 1) for part, one in zip(parts, (first, second), strict=True))
    return Difference(value, math.sqrt(total), total**2 / below if below else math.inf, "Welch's t-test over seeds")


def _spread(values: Sequence[float]) -> float:
    found = float(np.std(values, ddof=1))
    # What is left of equal values when their mean is rounded is no spread.
    return found if found > 1e-12 * max(map(abs, values)) else 0.0
