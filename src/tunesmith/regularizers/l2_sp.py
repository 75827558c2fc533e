"""L2-SP: pull the weights back to where they started."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from tunesmith.core.part import Part
from tunesmith.core.start import Start
from tunesmith.core.step import Step, Training


def squared_distance(weights: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Half of the summed squared distance, 1/2 sum (w - w0)^2, over pairs of equal shapes; w0 None stands for zero."""
    distances = [((w if w0 is None else w - w0).float() ** 2).sum() for w, w0 in weights]
    return 0.5 * torch.stack(distances).sum() if distances else torch.zeros(())


class L2Sp(Part):
    """Penalise the distance of the backbone's weights from their start, and the size of the head's.

    Formula: strength / 2 * ||w - w0||^2 + head / 2 * ||v||^2.
    Symbols: w the trained weights of the backbone, w0 the same before step 0; v the weights of the head and of inserted
    modules, which have no pre-trained start. Shapes: a scalar. Its size is counted once an update.
    Paper: Li, Grandvalet, Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", 2018.
    As there, the penalty is a term of the loss; AdamW's own decay (train.weight_decay) acts besides.
    """

    strength: float = Field(0.01, ge=0)
    """Pull of the backbone's weights towards their start."""
    head: float = Field(0.01, ge=0)
    """Pull of the head's weights towards zero."""

    _start: Start | None = PrivateAttr(default=None)
    _model: nn.Module | None = PrivateAttr(default=None)

    def setup(self, training: Training) -> None:
        """Ask for the start."""
        self._start, self._model = training.start, training.model

    def loss(self, step: Step) -> Tensor | None:
        """The penalty, in this micro-batch's share."""
        if self.strength == 0 and self.head == 0:
            return None
        assert self._start is not None and self._model is not None
        weights = dict(self._model.named_parameters())
        # An empty part (a delta method leaves no weight of the backbone to train) is a zero on the right device.
        device = next(iter(weights.values())).device
        old = squared_distance((w, w0) for _, w, w0 in self._start.pairs(self._model)).to(device)
        fresh = squared_distance((weights[name], None) for name in self._start.fresh).to(device)
        return step.share * (self.strength * old + self.head * fresh)
