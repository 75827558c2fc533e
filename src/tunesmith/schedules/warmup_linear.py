"""Linear warm-up, then linear decay to zero."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from tunesmith.core.part import Schedule
from tunesmith.core.step import Training


def factor(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate at `step` of `total`: step / w up to w, then (total - step) / (total - w).

    w = warmup * total, rounded up as in transformers. Zero at step 0 (where warmup > 0), one at the end of the warm-up,
    zero after the last step.
    """
    peak = math.ceil(warmup * total)
    if step < peak:
        return step / peak
    return max(0.0, (total - step) / max(1, total - peak))


class WarmupLinear(Schedule):
    """Raise the rate linearly from zero to its peak, then lower it linearly to zero.

    Formula: rate(t) = peak * t / w for t < w, else peak * (T - t) / (T - w).
    Symbols: t updates done, T all updates, w = warmup * T. Shapes: one factor for all parameter groups.
    Paper: Devlin et al., "BERT", 2019, appendix A.2; the share of 10 % is that of Mosbach et al., "On the Stability of
    Fine-tuning BERT", 2021.
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
