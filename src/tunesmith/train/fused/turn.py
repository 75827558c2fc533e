"""Rotation of queries and keys by position (Su et al., "RoFormer", 2021), by hand.

With a = [a_1, a_2] the halves of a head's numbers, and c = [c_1, c_2] and s = [s_1, s_2] the cosines and sines of the
token's position:

    b = [a_1 c_1 - a_2 s_1, a_2 c_2 + a_1 s_2]        da = [c_1 db_1 + s_2 db_2, c_2 db_2 - s_1 db_1]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Turn:
    """What some tokens' heads are turned by, in the type that is computed in; both [tokens, 1, size]."""

    cos: Tensor
    sin: Tensor

    def of(self, tokens: Tensor) -> Turn:
        """What some of the tokens are turned by."""
        return Turn(self.cos.index_select(0, tokens), self.sin.index_select(0, tokens))

    def forward_(self, row: Tensor, count: int) -> None:
        """Turn the first heads of each token of `row` [tokens, numbers], in place."""
        low, high = self.sin.chunk(2, -1)
        self._turn_(row, count, (-low, high))

    def backward_(self, grad: Tensor, count: int) -> None:
        """Of the gradient of what was turned make that of what was not, in place."""
        low, high = self.sin.chunk(2, -1)
        self._turn_(grad, count, (high, -low))

    def _turn_(self, row: Tensor, count: int, sides: tuple[Tensor, Tensor]) -> None:
        """[a_1, a_2] * cos + [a_2, a_1] * sides."""
        heads = heads_of(row, 0, count, self.cos.shape[-1])
        wide = heads.to(self.cos.dtype)  # once: products of mixed types convert each time
        out = wide * self.cos
        for place, other, side in zip(out.chunk(2, -1), reversed(wide.chunk(2, -1)), sides, strict=True):
            place.addcmul_(other, side)
        heads.copy_(out)


def heads_of(row: Tensor, start: int, count: int, size: int) -> Tensor:
    """`count` heads of each token of `row` [tokens, numbers], from head `start` on: a view [tokens, count, size]."""
    return row[:, start * size : (start + count) * size].view(-1, count, size)


def wide(dtype: torch.dtype) -> torch.dtype:
    """What is computed in where results are of `dtype`: no less than float32."""
    return torch.promote_types(dtype, torch.float32)
