"""Arithmetic on task vectors: what trainings changed, scaled, added, subtracted, thinned and put together.

A task vector is t = w - w0: trained weights less the backbone's. All functions take the vectors of one tensor, one a
run and of any shape, and are pure. The formulas are those of peft's `merge_utils`, which works tensor by tensor; the
papers rank the whole model's entries together where `trim` ranks a tensor's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

Combine = Callable[[Sequence[Tensor], Sequence[float], float, Generator], Tensor]


def trim(vector: Tensor, density: float) -> Tensor:
    """Keep the share `density` of the entries, those largest in size, and set the others to zero.

    Paper: Yadav et al., "TIES-Merging", 2023, step 1 (they keep 0.2).
    """
    if density >= 1:
        return vector
    kept = torch.topk(vector.abs().reshape(-1), k=int(density * vector.numel())).indices
    mask = torch.zeros_like(vector).reshape(-1)
    mask[kept] = 1
    return vector * mask.reshape(vector.shape)


def drop(vector: Tensor, density: float, generator: Generator) -> Tensor:
    """Keep every entry with probability `density` and divide it by that: the expectation stays.

    Paper: Yu et al., "Language Models are Super Mario" (DARE), 2023; their drop rate p is 1 - density.
    """
    if density >= 1:
        return vector
    return vector * torch.bernoulli(torch.full_like(vector, density), generator=generator) / density


def add(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum: sum of w_i t_i.

    Paper: Ilharco et al., "Editing Models with Task Arithmetic", 2023: one weight scales, weights of 1 add, a
    negative one takes away.
    """
    return (torch.stack(list(vectors)) * _column(weights, vectors[0])).sum(dim=0)


def elect(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """At every entry the sign of the sum wins (of zero: plus); the mean of w_i t_i over those t_i that have it.

    Paper: Yadav et al., "TIES-Merging", 2023, steps 2 and 3; their lambda is a common weight. The signs are elected
    before the weights are applied, as in peft.
    """
    stacked = torch.stack(list(vectors))  # [runs, ...]
    majority = torch.where(stacked.sum(dim=0) >= 0, 1, -1)
    agreeing = stacked.sign() == majority  # [runs, ...]
    total = (stacked * _column(weights, vectors[0]) * agreeing).sum(dim=0)
    return total / agreeing.sum(dim=0).clamp(min=1)


def linear(vectors: Sequence[Tensor], weights: Sequence[float], density: float, generator: Generator) -> Tensor:
    """Task arithmetic: `add`."""
    return add(vectors, weights)


def ties(vectors: Sequence[Tensor], weights: Sequence[float], density: float, generator: Generator) -> Tensor:
    """`trim`, then `elect`."""
    return elect([trim(vector, density) for vector in vectors], weights)


def dare(vectors: Sequence[Tensor], weights: Sequence[float], density: float, generator: Generator) -> Tensor:
    """`drop`, then `add`."""
    return add([drop(vector, density, generator) for vector in vectors], weights)


def dare_ties(vectors: Sequence[Tensor], weights: Sequence[float], density: float, generator: Generator) -> Tensor:
    """`drop`, then `elect`."""
    return elect([drop(vector, density, generator) for vector in vectors], weights)


WAYS: dict[str, Combine] = {"linear": linear, "ties": ties, "dare": dare, "dare_ties": dare_ties}
THINNING = ("ties", "dare", "dare_ties")
DRAWING = ("dare", "dare_ties")
ELECTING = ("ties", "dare_ties")


def mean_of_heads(heads: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The mean of whole weights over the runs of positive weight, by their weights; the first where there is none.

    A head starts afresh in every run, so there is no vector to scale or to take away.
    """
    positive = [max(weight, 0.0) for weight in weights]
    if not sum(positive):
        return heads[0]
    return add(heads, [weight / sum(positive) for weight in positive])


def _column(weights: Sequence[float], like: Tensor) -> Tensor:
    """The weights as a tensor that multiplies stacked vectors: [runs, 1, ...]."""
    return torch.tensor(list(weights), dtype=like.dtype, device=like.device).reshape(-1, *[1] * like.dim())
