"""What the body of a model gives, now and at its start, once a step for every head that asks. Used by distill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.step import Training


class Remembering(nn.Module):
    """A body that gives its last output again while it is asked about the same tensors. `forget` after every step."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self._asked: Any = None
        self._given: Any = None

    def forward(self, *given: Any, **named: Any) -> Any:
        """The body's output."""
        tensors = [value for value in (*given, *named.values()) if isinstance(value, torch.Tensor)]
        asked = ([id(tensor) for tensor in tensors], sorted(named), torch.is_grad_enabled())
        if self._asked is None or self._asked[0] != asked:
            self._given = self.body(*given, **named)
            self._asked = (asked, tensors)  # the tensors are held, so that no other takes one's id
        return self._given

    def under(self, model: nn.Module) -> nn.Module:
        """Let a model whose body this one's is ask here instead. Returns it."""
        if anatomy.backbone(model) is self.body:
            setattr(model, model.base_model_prefix, self)  # type: ignore[arg-type]
        return model

    def forget(self) -> None:
        """Let go of the output."""
        self._asked = self._given = None


class Before:
    """The model as it was at the start: a frozen copy, or where a method only put something in, the model itself with
    that switched off, which costs no memory.
    """

    def __init__(self, training: Training) -> None:
        model = training.model
        self._live = None if training.start.weights or not surgery.inserted(model) else model
        self.model = model if self._live is not None else training.start.twin(model)
        self.body = anatomy.backbone(self.model)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Inside, `model` gives what the start gave, without gradients."""
        if self._live is None:
            with torch.no_grad():
                yield
            return
        modes = {module: module.training for module in self._live.modules()}
        self._live.eval()
        try:
            with torch.no_grad(), surgery.switched_off(self._live):
                yield
        finally:
            for module, training in modes.items():
                module.training = training
