"""When the lower blocks of a model stop training: by a timetable, or when their gradients settle. Used by freeze."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def stops(count: int, first: float, cubed: bool) -> list[float]:
    """The share of the training after which each of `count` places, from the bottom, stops: linear from `first` to 1
    for the top one, or the cubes of these.
    """
    shares = [first + (1 - first) * place / max(1, count - 1) for place in range(count)]
    return [share**3 for share in shares] if cubed else shares


def added(total: Tensor | None, gradient: Tensor) -> Tensor:
    """The sum of gradients so far, in `total`'s memory where it has the room. Of rows that come in the order in which
    they were first touched, [rows, hidden], there may be more each time.
    """
    if total is not None and total.shape == gradient.shape:
        return total.add_(gradient)
    found = gradient.clone()
    if total is not None:
        found[: len(total)] += total
    return found


def changes(before: Sequence[float], now: Sequence[float]) -> list[float]:
    """|before - now| / before of every place: how much the size of its gradient changed; 0 where it was 0."""
    return [abs(b - a) / b if b else 0.0 for b, a in zip(before, now, strict=True)]


def settled(change: Sequence[float], percentile: float) -> int:
    """How many places from the bottom have settled: those before the first whose change is at least the percentile of
    all changes, 0 to 100.
    """
    if not change:
        return 0
    threshold = float(np.percentile(change, percentile))
    return next((place for place, value in enumerate(change) if value >= threshold), len(change))
