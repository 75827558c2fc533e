"""A short linear rise and a long linear fall, neither from nor to zero: ULMFiT's."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from tunesmith.core.part import Schedule
from tunesmith.core.step import Training


def factor(step: int, total: int, rise: float, ratio: float) -> float:
    """Share of the peak rate at `step` of `total`: (1 + p (ratio - 1)) / ratio.

    p = step / cut up to cut = floor(rise * total), then 1 - (step - cut) / (total - cut): one at the cut, zero at both
    ends, so that the rate goes from peak / ratio to the peak and back.
    """
    cut = math.floor(rise * total)
    p = step / cut if step < cut else 1 - (step - cut) / max(1, total - cut)
    return (1 + max(0.0, p) * (ratio - 1)) / ratio


class SlantedTriangular(Schedule):
    """Raise the rate quickly from a small one to its peak, then lower it slowly back.

    Formula: rate(t) = peak * (1 + p (ratio - 1)) / ratio; p = t / cut for t < cut, else 1 - (t - cut) / (T - cut).
    Symbols: t updates done, T all updates, cut = floor(rise * T). Shapes: one factor for all parameter groups.
    Paper: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, section 3.2, where
    T - cut is written cut (1 / rise - 1), the same but for rounding. T is the whole run, also where `unfreeze` opens
    blocks on the way.
    """

    sets: ClassVar[str] = "the learning rate"

    rise: float = Field(0.1, ge=0, lt=1)
    """Share of the updates in which the rate rises, cut_frac in the paper."""
    ratio: float = Field(32.0, ge=1)
    """How many times the smallest rate the peak is."""

    def setup(self, training: Training) -> None:
        """The rate of the first update."""
        self.after_step(training)

    def after_step(self, training: Training) -> None:
        """The rate of the next update."""
        training.scale_rates(factor(training.step, training.total_steps, self.rise, self.ratio))
