"""How far a language model's words are from what it said at its start, a portion of the vocabulary's scores at a time.
Used by distill.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from tunesmith.core.portions import exact, strips, summed
from tunesmith.core.words import Words


def divergence(now: Tensor, before: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(before / T) || softmax(now / T)), summed over rows: scores [rows, classes] -> a scalar."""
    told, said = (functional.log_softmax(scores.float() / temperature, dim=-1) for scores in (before, now))
    return temperature**2 * (told.exp() * (told - said)).sum()


def of_words(now: Words, before: Words, temperature: float) -> Tensor:
    """`divergence` of the scores at the same places, summed: a scalar, with gradients for `now`.

    Formula: dL/dz_i = T (softmax(z_i / T) - softmax(z0_i / T)), with z_i and z0_i the scores of place i [words].
    Neither matrix of all scores is kept: gradients are made together with the loss, as in `core.portions`.
    """
    if now.weight is None or before.weight is None:
        parts = [
            divergence(said, told, temperature)
            for (_, said), (_, told) in zip(now.scores(), before.scores(), strict=True)
        ]
        return torch.stack(parts).sum()
    weight, bias = before.weight.to(before.kind), None if before.bias is None else before.bias.to(before.kind)
    start = _Start(now.kind, before.states.to(before.kind), weight, bias, temperature)
    return summed(now.states, now.weight, now.bias, start)


@dataclass(frozen=True)
class _Start:
    """What the start said: its states [places, in], and its output layer's weight [words, in] and bias [words].

    kind: the type of the products now.
    """

    kind: torch.dtype
    states: Tensor
    weight: Tensor
    bias: Tensor | None
    temperature: float

    def at(self, part: slice) -> _Start:
        """What belongs to some of the places."""
        return replace(self, states=self.states[part])

    def turn(self, scores: Tensor, turned: bool, of_bias: Tensor | None) -> Tensor:
        """The divergence of scores [places, words], which become its gradient in place, if wanted."""
        loss, temperature = exact(scores.new_zeros(())), self.temperature
        for strip in strips(scores):
            part = scores[strip]
            then = exact(functional.linear(self.states[strip], self.weight, self.bias))  # [strip, words]
            told, said = (torch.log_softmax(exact(one) / temperature, dim=-1) for one in (then, part))
            p = told.exp()
            loss += temperature**2 * (p * told.sub_(said)).sum()
            if not turned:
                continue
            change = said.exp_().sub_(p).mul_(temperature)
            if of_bias is not None:
                of_bias += change.sum(0)
            part.copy_(change)
        return loss
