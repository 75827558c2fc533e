"""Pairs of runs, or of groups of runs: by how much one is better, and whether chance alone could do that.

The sign of a difference is always such that above 0 means better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy
from tunesmith.core.panel import Figure
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import over_seeds, paired, stats
from tunesmith.evaluate.shared import Answered

scipy: Any = Lazy("scipy.stats")

MCNEMAR, FLIPS, SWAPS = "McNemar's exact test", "sign-flip permutation test", "randomisation test"
UNPAIRED = "test of two intervals, unpaired"
LEVEL = 1 - stats.CONFIDENCE
SEED = seed_of(0, "compare")
"""Of all that is drawn: the same runs give the same page."""


@dataclass(frozen=True)
class Duel:
    """What two contenders, by number, come to. difference: of the first less the second, in the sense of better.
    low, high: its interval. p: of `test`; adjusted: after Holm's correction over all pairs. smallest: the difference
    that would have been found in 4 of 5 cases; None where nothing is known of the spread. over: what was drawn from,
    as in "872 rows".
    """

    first: int
    second: int
    difference: float
    low: float
    high: float
    test: str
    p: float
    over: str
    error: float
    freedom: float = math.inf
    adjusted: float = math.nan
    smallest: float | None = None

    @property
    def found(self) -> bool:
        """Whether chance does not explain it."""
        return self.adjusted <= LEVEL


def adjusted(duels: Sequence[Duel]) -> list[Duel]:
    """The duels with p-values corrected for there being so many, and with what they could have found."""
    holm = paired.holm([duel.p for duel in duels])
    return [
        replace(duel, adjusted=p, smallest=_smallest(duel, len(duels))) for duel, p in zip(duels, holm, strict=True)
    ]


def on_rows(answered: Mapping[int, Answered], metric: str, sign: int) -> list[Duel]:
    """Every pair of runs on the rows that all of them answered. sign: -1 where lower is better.

    The interval is that of a bootstrap that draws the same rows for all runs. The test: McNemar's where the metric is
    the share of right rows, one that flips signs where it is another mean over rows, else one that swaps answers.
    """
    rows = len(next(iter(answered.values())).truths)
    draws = stats.resampled(
        lambda places: {str(number): one.metrics(places)[metric] for number, one in answered.items()}, SEED, rows
    )
    whole = {number: one.metrics(np.arange(rows))[metric] for number, one in answered.items()}
    each = {
        number: paired.by_row(one.task.metrics, metric, one.truths, one.answers) for number, one in answered.items()
    }
    found = []
    for first, second in combinations(answered, 2):
        spread = sign * (draws[str(first)] - draws[str(second)])
        spread = spread[np.isfinite(spread)]
        test, p = _tested(answered[first], answered[second], each[first], each[second], metric)
        low, high = stats.interval(spread)
        difference = sign * (whole[first] - whole[second])
        error = float(spread.std(ddof=1)) if len(spread) > 1 else math.nan
        found.append(Duel(first, second, difference, low, high, test, p, f"{rows:,} rows", error))
    return found


def over_runs(first: tuple[int, Mapping[int, float]], second: tuple[int, Mapping[int, float]], sign: int) -> Duel:
    """Two contenders of which one at least is a group of runs: number, and metric by seed, of each."""
    (one, values), (other, others) = first, second
    found = over_seeds.compared(values, others)
    low, high = sorted(sign * bound for bound in found.span)
    runs = len(values) if found.paired else len(values) + len(others)
    over = f"{runs} seeds" if found.paired else f"{runs} runs"
    return Duel(one, other, sign * found.value, low, high, found.test, found.p, over, found.error, found.freedom)


def on_figures(first: tuple[int, Figure], second: tuple[int, Figure], sign: int) -> Duel | None:
    """Two runs on different rows, by their figures with intervals alone; None where one has none.

    Each interval of the normal distribution has the standard error (high - low) / (2 z(0.975)); that of the difference
    is the root of the sum of squares.
    """
    errors = [_error(figure) for _, figure in (first, second)]
    if any(math.isnan(error) for error in errors):
        return None
    error = math.hypot(*errors)
    difference = sign * (first[1].value - second[1].value)
    half = float(scipy.norm.ppf(1 - LEVEL / 2)) * error
    p = float(2 * scipy.norm.sf(abs(difference) / error)) if error else float(difference == 0)
    span = (difference - half, difference + half)
    return Duel(first[0], second[0], difference, *span, UNPAIRED, p, "these intervals", error)


def _tested(
    first: Answered, second: Answered, one: np.ndarray | None, other: np.ndarray | None, metric: str
) -> tuple[str, float]:
    if one is None or other is None:
        return SWAPS, paired.swapped(_metric(first, metric), first.answers, second.answers, SEED)
    if set(np.unique([one, other]).tolist()) <= {0.0, 1.0}:
        return MCNEMAR, paired.mcnemar(one == 1, other == 1)
    return FLIPS, paired.sign_flip(one - other, SEED)


def _metric(answered: Answered, name: str) -> Callable[[np.ndarray], float]:
    return lambda answers: answered.task.metrics(answered.truths, answers)[name]


def _smallest(duel: Duel, tests: int) -> float | None:
    if not duel.error > 0 or not duel.freedom > 0:
        return None
    return paired.smallest(duel.error, tests, duel.freedom)


def _error(figure: Figure) -> float:
    if figure.low is None or figure.high is None:
        return math.nan
    return (figure.high - figure.low) / (2 * float(scipy.norm.ppf(1 - LEVEL / 2)))
