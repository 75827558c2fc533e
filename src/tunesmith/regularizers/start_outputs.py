"""What the body of a model gives, now and at its start, once a step for every head that asks. Used by distill."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.step import Training


class Remembering(nn.Module):
    """A body that gives its last outputs again while it is asked about the same tensors. `forget` after every step.

    listens: whether it also remembers what the body gives to others, with gradients. whole: whether all tokens of such
    an output are read here, and not only those that the others read.
    """

    def __init__(self, body: nn.Module, listens: bool = False, whole: bool = True) -> None:
        super().__init__()
        self.body = body
        self.reads_states = whole
        self._names = list(inspect.signature(type(body).forward).parameters)[1:]  # without `self`
        self._known: list[tuple[Any, Any, Any]] = []
        self._handle = body.register_forward_hook(self._heard, with_kwargs=True) if listens else None

    def __deepcopy__(self, _: Any) -> Remembering:
        return self

    def forward(self, *given: Any, **named: Any) -> Any:
        """The body's output."""
        asked = self._asked(given, named)
        for known, _, output in self._known:
            if known == asked:
                return output
        output = self.body(*given, **named)
        if self._handle is None or not torch.is_grad_enabled():
            self._remember(given, named, output)
        return output

    def under(self, model: nn.Module) -> nn.Module:
        """Let a model whose body this one's is ask here instead. Returns it."""
        if anatomy.backbone(model) is self.body:
            setattr(model, model.base_model_prefix, self)  # type: ignore[arg-type]
        return model

    def forget(self) -> None:
        """Let go of the outputs."""
        self._known.clear()

    def leave(self) -> None:
        """Let go of the body as well: nothing is heard any more."""
        self.forget()
        if self._handle is not None:
            self._handle.remove()

    def _heard(self, body: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if body is self.body and torch.is_grad_enabled():
            self._remember(given, named, output)

    def _remember(self, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        # A copy, as others may put something else into the mapping; the arguments are held, so that no other tensor
        # takes one's id.
        kept = copy.copy(output) if isinstance(output, dict) else output
        self._known.append((self._asked(given, named), (given, named), kept))

    def _asked(self, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What differs when another output is asked for."""
        every = {**dict(zip(self._names, given, strict=False)), **named}
        told = {
            name: id(value) if isinstance(value, torch.Tensor) else value
            for name, value in every.items()
            if value is not None and value is not False
        }
        return torch.is_grad_enabled(), told


class Before:
    """The model as it was at the start: a frozen copy, or where a method only put something in, the model itself with
    that switched off, which costs no memory.
    """

    def __init__(self, training: Training) -> None:
        model = training.model
        self._live = None if training.start.weights or not surgery.inserted(model) else model
        self.model = model if self._live is not None else training.start.twin(model)
        self.body = anatomy.backbone(self.model)

    def over(self, shell: nn.Module, model: nn.Module) -> nn.Module:
        """A copy of a shell over the body of `model`, the one that trains, over this body instead."""
        modules = zip(anatomy.backbone(model).modules(), self.body.modules(), strict=True)
        return copy.deepcopy(shell, {id(now): then for now, then in modules})

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
