"""Products of a row of tokens with a thin matrix, such as those of a low-rank pair, piece by piece.

The library below prepares each shape that it meets, which takes time and memory. Rows come in many
lengths: large products are worth it, thin ones are not. In pieces of PIECE tokens they have few shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 1024


def down(x: Tensor, thin: Tensor) -> Tensor:
    """x thin^T: x [tokens, in] and thin [rank, in] -> [tokens, rank]."""
    out = x.new_empty(x.shape[0], thin.shape[0])
    for part, place in zip(x.split(PIECE), out.split(PIECE), strict=True):
        torch.mm(part, thin.t(), out=place)
    return out


def add_up_(y: Tensor, small: Tensor, thin: Tensor) -> None:
    """y + small thin^T, in y's memory: y [tokens, out], small [tokens, rank], thin [out, rank]."""
    for part, place in zip(small.split(PIECE), y.split(PIECE), strict=True):
        place.addmm_(part, thin.t())


def across(small: Tensor, x: Tensor) -> Tensor:
    """small^T x, summed in float32: small [tokens, rank] and x [tokens, in] -> [rank, in]."""
    parts = [torch.mm(a.t(), b) for a, b in zip(small.split(PIECE), x.split(PIECE), strict=True)]
    if len(parts) == 1:
        return parts[0]
    total = parts[0].to(torch.promote_types(small.dtype, torch.float32))
    for part in parts[1:]:
        total.add_(part)
    return total
