"""The matrix of a product: y = x W^T + c and dx = g W, with W [out, in], c [out] or None, x [tokens, in] and
g [tokens, out].

A matrix that does not train now is laid out once in the blocks in which the library below multiplies, a copy for each
of both products: otherwise it does that again in every call. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor

Both = tuple[Tensor, Tensor | None]
"""W and c."""
TOKENS = 512
"""The number of tokens for which blocks are chosen; they serve for any."""


class Matrix(Protocol):
    """W and c, ready to multiply."""

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, in] -> [tokens, out]."""

    def backward(self, grad: Tensor) -> Tensor:
        """[tokens, out] -> [tokens, in]."""


class Plain:
    """W and c as they are."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, in] -> [tokens, out]."""
        weight = self.weight.t()
        return torch.mm(x, weight) if self.bias is None else torch.addmm(self.bias, x, weight)

    def backward(self, grad: Tensor) -> Tensor:
        """[tokens, out] -> [tokens, in]."""
        return torch.mm(grad, self.weight)


class Packed:
    """W laid out in blocks, when it is first multiplied by. make: gives W and c, always the same."""

    def __init__(self, make: Callable[[], Both]) -> None:
        self._make = make

    @cached_property
    def _forward(self) -> Both:
        weight, bias = self._make()
        return _packed(weight), bias

    @cached_property
    def _backward(self) -> Tensor:
        return _packed(self._make()[0].t().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, in] -> [tokens, out]."""
        return _linear(x, *self._forward)

    def backward(self, grad: Tensor) -> Tensor:
        """[tokens, out] -> [tokens, in]."""
        return _linear(grad, self._backward, None)


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether matrices of this type can be packed here: bfloat16 on a CPU that multiplies it by oneDNN."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return bool(torch.backends.mkldnn.enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed(weight: Tensor) -> Tensor:
    # A packed matrix outlives the mode in which it is made: one made while predicting serves training too.
    with torch.inference_mode(False), torch.no_grad():
        return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, TOKENS))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))
