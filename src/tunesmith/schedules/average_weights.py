"""Averages of weights, in place. Used by average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def mixed(weights: Sequence[tuple[Tensor, Tensor, Tensor]], share: float) -> None:
    """Let each weight be (1 - share) start + share * end, of (weight, start, end) of equal shapes; at 0 and 1 exactly
    one of both.
    """
    for weight, start, end in weights:
        weight.copy_(start if share == 0 else end if share == 1 else torch.lerp(start.to(end.dtype), end, share))


@torch.no_grad()
def mean(weights: Mapping[str, Tensor], several: Sequence[Mapping[str, Tensor]]) -> None:
    """Let each weight be the mean of those of its name in `several`, summed in float32."""
    for name, weight in weights.items():
        total = torch.zeros_like(weight, dtype=torch.float32)
        for one in several:
            total += one[name].to(weight.device)
        weight.copy_(total / len(several))


def greedy(best_first: Sequence[int], measured: Callable[[Sequence[int]], float]) -> tuple[list[int], float]:
    """Take the first, and of the others, in their order, each with which what is measured of all taken does not fall.
    Returns what was taken, and its measure.
    """
    taken = [best_first[0]]
    value = measured(taken)
    for one in best_first[1:]:
        tried = measured([*taken, one])
        if tried >= value:
            taken, value = [*taken, one], tried
    return taken, value
