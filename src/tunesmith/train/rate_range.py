"""A learning rate that grows from update to update, and what its losses say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from tunesmith.core.part import Schedule
from tunesmith.core.step import Training

MEMORY = 0.9
"""How much of the mean so far stays in the smoothed loss."""
FALL = 0.02
"""The least fall of the smoothed loss, as a share of its beginning, from which a rate is named."""
WORSE = 2.0
"""How many times the smallest smoothed loss ends the test."""


class RateRange(Schedule):
    """Raise the rate by a constant factor from update to update, from `lowest` to `highest`.

    Formula: rate(t) = lowest * (highest / lowest)^(t / (T - 1)), t updates done of T.
    """

    sets: ClassVar[str] = "the learning rate"

    base: float
    """The rate of the recipe, of which every group's peak is a multiple."""
    lowest: float
    """The first rate."""
    highest: float
    """The last rate."""

    def setup(self, training: Training) -> None:
        """The rate of the first update."""
        self.after_step(training)

    def after_step(self, training: Training) -> None:
        """The rate of the next update."""
        training.scale_rates(self.rate(training.step, training.total_steps) / self.base)

    def rate(self, step: int, total: int) -> float:
        """The rate after `step` updates of `total`."""
        return float(self.lowest * (self.highest / self.lowest) ** (min(step, total - 1) / max(1, total - 1)))


def smoothed(losses: Sequence[float]) -> list[float]:
    """The moving mean m_t = 0.9 m_(t-1) + 0.1 l_t of losses l, divided by 1 - 0.9^t, which undoes its start at 0."""
    found, mean = [], 0.0
    for count, loss in enumerate(losses, 1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        found.append(mean / (1 - MEMORY**count))
    return found


def is_over(losses: Sequence[float]) -> bool:
    """Whether the loss has grown so much that larger rates need not be tried."""
    curve = smoothed(losses)
    return not math.isfinite(losses[-1]) or (len(curve) > 1 and curve[-1] > WORSE * min(curve))


def chosen(rates: Sequence[float], losses: Sequence[float]) -> tuple[float | None, str]:
    """The rate at which the smoothed loss falls fastest, by the logarithm of the rate, before it is lowest; and why.
    None where it does not fall.
    """
    curve = smoothed(losses)
    lowest = min(range(len(curve)), key=curve.__getitem__)
    if lowest == 0 or curve[0] - curve[lowest] < FALL * abs(curve[0]):
        return (
            None,
            f"the loss, {curve[0]:.4g} at first, does not fall at any rate from {rates[0]:.1g} to {rates[-1]:.1g}",
        )
    slopes = [
        (curve[min(place + 1, lowest)] - curve[place - 1]) / math.log(rates[min(place + 1, lowest)] / rates[place - 1])
        for place in range(1, lowest + 1)
    ]
    best = 1 + min(range(len(slopes)), key=slopes.__getitem__)
    after = f"from {rates[lowest]:.2g} on it rises" if lowest < len(curve) - 1 else "it still falls at the largest rate"
    return rates[best], (
        f"there the loss falls fastest, on its way from {curve[0]:.4g} at {rates[0]:.1g} to {curve[lowest]:.4g} at "
        f"{rates[lowest]:.2g}; {after}"
    )
