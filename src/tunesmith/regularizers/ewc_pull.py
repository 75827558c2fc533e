"""The pull of weights to their start, each as strong as it matters. Used by ewc."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 1 << 17
"""Weights that are compared with their start at once."""


def penalty(weights: Iterable[tuple[Tensor, Tensor, Tensor]], factor: float = 1.0) -> Tensor:
    """factor / 2 * sum F (w - w0)^2 over weights w, starts w0 and Fishers F of equal shapes: a scalar, with gradients.

    Formula: the gradient factor * F (w - w0) is made together with the sum, in pieces that the processor's cache holds.
    """
    known = list(weights)
    if not known:
        return torch.zeros(())
    now, starts, information = zip(*known, strict=True)
    told: Tensor = _Pull.apply(starts, information, factor, torch.is_grad_enabled(), *now)  # type: ignore[no-untyped-call]
    return told


class _Pull(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, starts: Sequence[Tensor], information: Sequence[Tensor], factor: float, learns: bool, *now: Tensor
    ) -> Tensor:
        total, kept = now[0].new_zeros((), dtype=torch.float32), []
        for w, w0, f in zip(now, starts, information, strict=True):
            gradient = torch.empty(w.shape, device=w.device) if learns else None
            flat = [one.reshape(-1).split(PIECE) for one in (w, w0, f)]
            places = [None] * len(flat[0]) if gradient is None else gradient.view(-1).split(PIECE)
            for a, b, c, place in zip(*flat, places, strict=True):
                apart = a.float() - b.float()
                pull = torch.mul(apart, c * factor, out=place)
                total += torch.dot(pull, apart)
            kept.append(None if gradient is None else gradient.to(w.dtype))
        ctx.save_for_backward(*kept)
        return total / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # In place, as they are large; autograd refuses a second backward pass by itself.
        return (None, None, None, None, *(one.mul_(grad.to(one.dtype)) for one in ctx.saved_tensors))
