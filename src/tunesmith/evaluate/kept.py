"""The retention score: what a model kept of what it could do, from measurements before and after."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SURE = 0.05
"""How far above chance a probe must have been before training: below that it has nothing to lose."""


@dataclass(frozen=True)
class Measurement:
    """One measurement. part: which of the score's parts it belongs to. name: of the figure. before, after: what was
    measured; None where there is no such thing. share: what was kept, from 0 to 1; None where it does not count.
    low, high: the interval of `after`. why: what a reader should know. least, most: the interval of `share`.
    """

    part: str
    name: str
    before: float | None
    after: float | None
    share: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""
    least: float | None = None
    most: float | None = None


def of_perplexity(before: float, after: float) -> float | None:
    """min(1, before / after); None where it is undefined before."""
    if not math.isfinite(before) or math.isnan(after):
        return None
    return min(1.0, before / after)


def of_correlation(before: float, after: float) -> float | None:
    """after / before between 0 and 1; None where there was no correlation above 0 to keep."""
    if not before > 0 or math.isnan(after):
        return None
    return min(1.0, max(0.0, after / before))


def of_accuracy(before: float, after: float, chance: float) -> float | None:
    """(after - chance) / (before - chance) between 0 and 1; None where before was hardly above chance."""
    if before < chance + SURE:
        return None
    return min(1.0, max(0.0, (after - chance) / (before - chance)))


def score(found: Sequence[Measurement]) -> float | None:
    """The mean over parts of the mean over each part's shares; None where nothing counts."""
    weights = _weights(found)
    return sum(weight * share for (_, share), weight in weights) if weights else None


def interval(found: Sequence[Measurement]) -> tuple[float, float] | None:
    """The interval of the score, between 0 and 1: its distances to the score are the root of the sum of squares of the
    shares' own, each in proportion to its weight, as if they were independent. A share without interval counts as
    exact; None where no share has one.
    """
    below = above = 0.0
    weights = _weights(found)
    for (one, share), weight in weights:
        below += (weight * (share - (share if one.least is None else min(share, one.least)))) ** 2
        above += (weight * ((share if one.most is None else max(share, one.most)) - share)) ** 2
    if all(one.least is None or one.most is None for (one, _), _ in weights):
        return None
    whole = sum(weight * share for (_, share), weight in weights)
    return max(0.0, whole - math.sqrt(below)), min(1.0, whole + math.sqrt(above))


def _weights(found: Sequence[Measurement]) -> list[tuple[tuple[Measurement, float], float]]:
    """Measurements that count, with their shares, and their weights in the score, which add up to 1."""
    counted = [(one, one.share) for one in found if one.share is not None]
    sizes = Counter(one.part for one, _ in counted)
    return [((one, share), 1 / (len(sizes) * sizes[one.part])) for one, share in counted]
