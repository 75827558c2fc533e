"""A rate that stays as it is."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from tunesmith.core.part import Schedule
from tunesmith.core.step import Training


def factor(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate at `step` of `total`: step / w up to w = warmup * total (rounded up), then 1."""
    peak = math.ceil(warmup * total)
    return step / peak if step < peak else 1.0


class Constant(Schedule):
    """Keep the rate at its peak, after a linear rise where one is wanted.

    Formula: rate(t) = peak * min(1, t / w).
    Symbols: t updates done, T all updates, w = warmup * T. Shapes: one factor for all parameter groups.
    Paper: none; a common choice where another part of the recipe changes the rates.
    """

    sets: ClassVar[str] = "the learning rate"

    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the updates in which the rate rises."""

    def setup(self, training: Training) -> None:
        """The rate of the first update."""
        self.after_step(training)

    def after_step(self, training: Training) -> None:
        """The rate of the next update."""
        training.scale_rates(factor(training.step, training.total_steps, self.warmup))
