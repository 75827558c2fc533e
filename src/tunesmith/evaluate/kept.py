"""The retention score: what a model kept of what it could do, from measurements before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SURE = 0.05
"""How far above chance a probe must have been before training: below that it has nothing to lose."""


@dataclass(frozen=True)
class Measurement:
    """One measurement. part: which of the score's parts it belongs to. name: of the figure. before, after: what was
    measured; None where there is no such thing. share: what was kept, from 0 to 1; None where it does not count.
    low, high: the interval of `after`. why: what a reader should know.
    """

    part: str
    name: str
    before: float | None
    after: float | None
    share: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


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
    parts: dict[str, list[float]] = {}
    for one in found:
        if one.share is not None:
            parts.setdefault(one.part, []).append(one.share)
    means = [sum(shares) / len(shares) for shares in parts.values()]
    return sum(means) / len(means) if means else None
