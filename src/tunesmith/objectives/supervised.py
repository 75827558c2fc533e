"""Supervised training: the task's own loss."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tunesmith.core.part import Objective
from tunesmith.core.step import Step


class Supervised(Objective):
    """Minimise the task's loss, averaged over the targets of the whole update.

    Formula: L = (sum over micro-batches and targets of the task's loss) / (targets in the update).
    Symbols: the targets are counted over all micro-batches before the first forward pass. Shapes: a scalar a
    micro-batch.
    Paper: the standard one; a mean of micro-batch means, as many trainers had it until 2024, would weigh targets of
    short micro-batches more.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"targets"})

    def loss(self, step: Step) -> Tensor:
        """This micro-batch's part of the update's mean."""
        return step.task.loss(step) / step.targets
