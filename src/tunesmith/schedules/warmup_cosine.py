"""Linear warm-up, then half a cosine down to zero."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from tunesmith.core.part import Schedule
from tunesmith.core.step import Training


def factor(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate at `step` of `total`: step / w up to w, then (1 + cos(pi p)) / 2.

    w = warmup * total, rounded up as in transformers;
    p = (step - w) / (total - w) is the progress after the warm-up. Zero at step 0 (where warmup > 0), one at the end
    of the warm-up, one half midway through the rest, zero after the last step.
    """
    peak = math.ceil(warmup * total)
    if step < peak:
        return step / peak
    progress = 1 - max(0, total - step) / max(1, total - peak)
    return 0.5 * (1 + math.cos(math.pi * progress))


class WarmupCosine(Schedule):
    """Raise the rate linearly from zero to its peak, then lower it along half a cosine to zero.

    Formula: rate(t) = peak * t / w for t < w, else peak * (1 + cos(pi (t - w) / (T - w))) / 2.
    Symbols: t updates done, T all updates, w = warmup * T. Shapes: one factor for all parameter groups.
    Paper: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, without restarts and
    with a linear warm-up before.
    """

    sets: ClassVar[str] = "the learning rate"

    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the updates in which the rate rises."""

    def setup(self, training: Training) -> None:
        """The rate of the first update."""
        self.after_step(training)

    def after_step(self, training: Training) -> None:
        """The rate of the next update."""
        training.scale_rates(factor(training.step, training.total_steps, self.warmup))
