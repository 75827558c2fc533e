"""The cross-entropy of states over a vocabulary, made a portion of scores at a time, with its gradients.

The matrix of all scores [places, words] is the largest that a language model makes, and is read once. Here each portion
of it becomes its own gradient, in place, and is gone: what stays is as large as the states and the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

PORTION = 1 << 23
"""Most scores of words that are held at once; or as many as there are numbers in the states, or in a quarter of the
gradient of the weight, which is read and written for every portion, if these are more.
"""
ROUND = 32
"""Places are filled up to a multiple of this: the library below prepares every shape that it meets."""
WORDS = 1 << 12
"""Words whose share of the weight's gradient a processor makes at once."""
STRIP = 1 << 20
"""Most scores that a processor turns into probabilities at once: what its cache holds."""


def summed_loss(
    states: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None = None,
    shares: Tensor | None = None,
    kind: torch.dtype | None = None,
) -> Tensor:
    """Cross-entropy of softmax(states W^T + b) with the labels, summed: a scalar.

    Formula: L = -sum_i c_i log p_i[y_i], p_i = softmax(W h_i + b); dL/dh_i = c_i (p_i - e_(y_i)) W,
    dL/dW = sum_i c_i (p_i - e_(y_i)) h_i^T, dL/db = sum_i c_i (p_i - e_(y_i)).
    Symbols: h states [places, in]; W weight [words, in]; b bias [words]; y labels [places], each a word; c shares
    [places], 1 where not given. Products are computed in `kind` (W's type where not given), the rest in float32.
    Source: gradients are made together with the loss, as in Hsu et al., "Liger Kernel", 2024, so that scores are
    computed once and never kept.
    """
    return summed(states, weight, bias, _Labels(labels, shares, kind or weight.dtype))


class Told(Protocol):
    """What a loss compares the scores of places with. kind: the type of the products."""

    @property
    def kind(self) -> torch.dtype: ...

    def at(self, part: slice) -> Told:
        """What belongs to some of the places."""

    def turn(self, scores: Tensor, turned: bool, of_bias: Tensor | None) -> Tensor:
        """The loss of scores [places, words], which become its gradient in place, if wanted; `of_bias` gets its sum."""


def summed(states: Tensor, weight: Tensor, bias: Tensor | None, told: Told) -> Tensor:
    """A loss of the scores of states [places, in] by weight [words, in] and bias [words], summed over places: a scalar,
    with gradients.
    """
    with torch.autocast(states.device.type, enabled=False):
        loss: Tensor = _Summed.apply(states, weight, bias, told, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return loss


def strips(scores: Tensor) -> Iterator[slice]:
    """Places of scores [places, words], as many at once as the processor's cache holds."""
    rows = max(1, STRIP // scores.shape[1] if scores.device.type == "cpu" else len(scores))
    return (slice(at, at + rows) for at in range(0, len(scores), rows))


def portions(states: Tensor, words: int, gradient: int = 0) -> Iterator[slice]:
    """Places [places, in] in portions whose scores of `words` fit; all are of one size, a round one, but the last.
    gradient: how many numbers that of the weight has.
    """
    size = max(1, max(PORTION, states.numel(), gradient // 4) // words)
    size -= size % ROUND if size > ROUND else 0
    return (slice(start, min(start + size, len(states))) for start in range(0, len(states), size))


def rounded(states: Tensor) -> Tensor:
    """States [places, in] with zeros behind them, up to a round number of places where they are not few."""
    missing = -len(states) % ROUND if len(states) > ROUND else 0
    return functional.pad(states, (0, 0, 0, missing)) if missing else states


def exact(tensor: Tensor) -> Tensor:
    """In float32, or in float64 where it is that."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@dataclass(frozen=True)
class _Labels:
    """Labels [places]; what each counts, shares [places], None for 1; and the type of the products."""

    labels: Tensor
    shares: Tensor | None
    kind: torch.dtype

    def at(self, part: slice) -> _Labels:
        return replace(self, labels=self.labels[part], shares=None if self.shares is None else self.shares[part])

    def turn(self, scores: Tensor, turned: bool, of_bias: Tensor | None) -> Tensor:
        loss = exact(scores.new_zeros(()))
        for strip in strips(scores):
            part, here = scores[strip], self.at(strip)
            logs, labels = torch.log_softmax(exact(part), dim=-1), here.labels[:, None]
            losses = logs.gather(1, labels)[:, 0]
            loss -= losses.sum() if here.shares is None else losses @ here.shares.to(losses.dtype)
            if not turned:
                continue
            change = logs.exp_().scatter_add_(1, labels, logs.new_full(labels.shape, -1.0))  # p - e_y
            if here.shares is not None:
                change *= here.shares[:, None]
            if of_bias is not None:
                of_bias += change.sum(0)
            part.copy_(change)
        return loss


class _Summed(torch.autograd.Function):
    """The loss, and the gradients that are needed, which wait for the backward pass."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, told: Told, learns: bool) -> Tensor:
        wanted = [learns and needed for needed in ctx.needs_input_grad[:3]]
        layer = weight.to(told.kind), None if bias is None else bias.to(told.kind)  # cast once for all portions
        loss, gradients = _made(states.to(told.kind), layer, told, wanted)
        given = (states, weight, bias)
        kept = [
            None if one is None else one.to(cast(Tensor, of).dtype) for one, of in zip(gradients, given, strict=True)
        ]
        ctx.save_for_backward(*kept)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # In place, as the weight's is large; autograd refuses a second backward pass by itself.
        found = [None if one is None else one.mul_(gradient.to(one.dtype)) for one in ctx.saved_tensors]
        return (*found, None, None)


def _made(
    states: Tensor, layer: tuple[Tensor, Tensor | None], told: Told, wanted: list[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """The loss, and the `wanted` ones of the gradients of states [places, in] and of the layer's weight [words, in] and
    bias [words], these two in float32.
    """
    weight, bias = layer
    loss = exact(states.new_zeros(()))
    of_states = torch.empty_like(states) if wanted[0] else None
    of_weight = torch.zeros_like(weight, dtype=loss.dtype) if wanted[1] else None
    of_bias = torch.zeros_like(bias, dtype=loss.dtype) if wanted[2] and bias is not None else None
    for part in portions(states, len(weight), 0 if of_weight is None else of_weight.numel()):
        here, real = rounded(states[part]), part.stop - part.start
        scores = functional.linear(here, weight, bias)  # [portion, words]
        loss += told.at(part).turn(scores[:real], any(wanted), of_bias)
        scores[real:] = 0
        if of_states is not None:
            of_states[part] = torch.mm(scores, weight)[:real]
        if of_weight is not None:
            _add(of_weight, scores, here)
    return loss, [of_states, of_weight, of_bias]


def _add(buffer: Tensor, change: Tensor, states: Tensor) -> None:
    """Add change^T states to the gradient of a weight [words, in]; on a processor some words at a time, as the product
    of all is as large as the weight.
    """
    size = WORDS if buffer.device.type == "cpu" else len(buffer)
    for start in range(0, len(buffer), size):
        part = buffer[start : start + size]
        own = change[:, start : start + size].t()
        if part.dtype == change.dtype:
            part.addmm_(own, states)
        else:
            part.add_(own @ states)
