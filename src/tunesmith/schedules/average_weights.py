"""Averages of weights, in place. Used by average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
