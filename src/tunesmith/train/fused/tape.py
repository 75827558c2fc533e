"""One autograd function for any fused block: what its forward pass puts on a tape, its backward pass takes off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Tape:
    """What the backward pass needs, last in first out. With `keep` False nothing is kept."""

    def __init__(self, tensors: Iterable[Tensor | None] = (), keep: bool = True) -> None:
        self.tensors = list(tensors)
        self.keep = keep

    def push(self, *tensors: Tensor | None) -> None:
        """Keep these."""
        if self.keep:
            self.tensors.extend(tensors)

    def pop(self) -> Tensor | None:
        """Take the last one off."""
        return self.tensors.pop()

    def take(self, count: int) -> list[Any]:
        """Take the last `count` off, in the order in which they were put on."""
        taken = self.tensors[len(self.tensors) - count :]
        del self.tensors[len(self.tensors) - count :]
        return taken


class Gradients:
    """Gradients of parameters, each in its parameter's own type; those of one that is used twice add up."""

    def __init__(self) -> None:
        self._found: dict[int, Tensor] = {}

    def give(self, parameter: Tensor, gradient: Tensor) -> None:
        """Add a gradient, of the parameter's shape, if the parameter trains."""
        if parameter.requires_grad:
            gradient, before = gradient.to(parameter.dtype), self._found.get(id(parameter))
            self._found[id(parameter)] = gradient if before is None else before + gradient

    def of(self, parameter: Tensor) -> Tensor | None:
        """What was given for a parameter."""
        return self._found.get(id(parameter))


class Work(Protocol):
    """One call of a fused block: everything that it computes with."""

    @property
    def trained(self) -> Sequence[Tensor]:
        """The parameters that want a gradient, each once."""

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        """[1, total, hidden] -> [1, total or sequences, hidden]."""

    def backward(self, grad: Tensor, tape: Tape, gradients: Gradients, wanted: bool) -> Tensor | None:
        """The gradient of x if it is wanted; those of parameters are given to `gradients`."""


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, work: Work, *trained: Tensor) -> Tensor:
        tape = Tape()
        with torch.autocast(x.device.type, enabled=False):
            out = work.forward(x, tape)
        ctx.save_for_backward(*tape.tensors)
        ctx.work = work
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = Gradients()
        with torch.autocast(grad.device.type, enabled=False):
            dx = ctx.work.backward(grad, Tape(ctx.saved_tensors), gradients, ctx.needs_input_grad[0])
        return (dx, None, *map(gradients.of, ctx.work.trained))


def run(work: Work, x: Tensor) -> Tensor:
    """The block's output, differentiable where anything wants a gradient; otherwise nothing is kept."""
    if torch.is_grad_enabled() and (x.requires_grad or work.trained):
        return cast(Tensor, _Fused.apply(x, work, *work.trained))  # type: ignore[no-untyped-call]
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        return work.forward(x, Tape(keep=False))
