"""Frozen linears whose weight stands in 4 or 8 bits, and is made whole wherever it is needed.

bitsandbytes packs and unpacks the weights. Its own layers are not kept: on processors with bfloat16 units its 4-bit
layer rewrites what it stores at the first prediction, and passes no gradient from then on; its 8-bit layer rounds the
inputs too when it predicts. The layers here compute with the weight that they store, in training and after, on every
device.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

# It says when it is imported, which peft does too, that kernels are missing: those of a product that is not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

BLOCK, SCALES = 64, 256
"""Weights that share a scale in NF4, and scales that share a scale of their own."""


class Quantised(nn.Linear):
    """y = x W^T + b, with W [out, in] stored in few bits; b [out] as it was. Nothing in it trains.

    `weight` is what is stored. `transposed` says that the layer stands for GPT-2's Conv1D.
    """

    bias: nn.Parameter | None  # type: ignore[assignment]

    def __init__(self, stored: Tensor, shape: tuple[int, int], bias: Tensor | None, transposed: bool) -> None:
        nn.Module.__init__(self)  # a linear's own would make a weight in full
        self.out_features, self.in_features = shape
        self.weight = frozen(stored)
        self.bias = None if bias is None else frozen(bias)
        self.transposed = transposed

    def dequantised(self, kind: torch.dtype = torch.float32) -> Tensor:
        """W in the type `kind`, [out, in]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        y: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def unstored(self) -> int:
        """How many more weights W has than numbers are stored for it."""
        stored = sum(p.numel() for name, p in self.named_parameters() if name != "bias")
        return self.in_features * self.out_features - stored


class Nf4Linear(Quantised):
    """W in 4 bits (NF4) with double quantisation: about 0.52 bytes a weight.

    Formula: W = c[i] * a a block of 64 weights, a = d[j] * e + m a block of 256 scales.
    Symbols: c the 16 codes of NF4, i [out in] stored in 4 bits; a the largest absolute weight of its block; d the 256
    codes of dynamic 8-bit numbers, j stored in `scales`; e in `steps`; m the mean of all a, in `offset`.
    Paper: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023.
    """

    def __init__(
        self, stored: Tensor, largest: Tensor, shape: tuple[int, int], bias: Tensor | None, transposed: bool
    ) -> None:
        super().__init__(stored, shape, bias, transposed)
        # In float64: the mean must not depend on the order of summation, which follows the number of threads.
        offset = largest.double().mean().float()
        scales, state = _bitsandbytes("functional").quantize_blockwise(largest.float() - offset, blocksize=SCALES)
        self.scales, self.steps, self.offset = frozen(scales), frozen(state.absmax), frozen(offset)

    def dequantised(self, kind: torch.dtype = torch.float32) -> Tensor:
        """W in the type `kind`, [out, in]."""
        unpack = _bitsandbytes("functional")
        largest = unpack.dequantize_blockwise(self.scales.data, absmax=self.steps.float(), blocksize=SCALES)
        direct = kind if kind in (torch.bfloat16, torch.float16) else torch.float32
        # As one row: on processors with AVX-512, rows that a block does not divide get the scales of other blocks
        # (bitsandbytes 0.50.2), and where a row's length is odd a byte belongs to two.
        row = (2 * self.weight.numel(),)
        largest = largest + self.offset.float()
        state = unpack.QuantState(largest, shape=row, blocksize=BLOCK, quant_type="nf4", dtype=direct)
        weight: Tensor = unpack.dequantize_4bit(self.weight.data, state).flatten()  # [out * in], and one if that is odd
        return weight[: self.out_features * self.in_features].view(self.out_features, self.in_features).to(kind)


class Int8Linear(Quantised):
    """W in 8 bits with one scale a row: about one byte a weight.

    Formula: W = i * s / 127, with i [out, in] in -127 … 127, and s [out, 1] the largest absolute weight of a row.
    Paper: Dettmers et al., "LLM.int8()", 2022. Theirs multiplies in 8 bits and keeps outliers apart; ours stores in
    8 bits and multiplies in the type of the inputs, so that a gradient can pass and merging changes nothing.
    """

    def __init__(
        self, stored: Tensor, largest: Tensor, shape: tuple[int, int], bias: Tensor | None, transposed: bool
    ) -> None:
        super().__init__(stored, shape, bias, transposed)
        self.scales = frozen(largest.float()[:, None] / 127)  # [out, 1]

    def dequantised(self, kind: torch.dtype = torch.float32) -> Tensor:
        """W in the type `kind`, [out, in]."""
        return (self.weight * self.scales).to(kind)


class _Product(torch.autograd.Function):
    """x W^T; W is made anew for the backward pass, so that it is never kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Quantised) -> Tensor:
        device = x.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        ctx.layer, ctx.kind = layer, x.dtype
        return nn.functional.linear(x.to(kind), layer.dequantised(kind))  # [batch, time, out]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient @ ctx.layer.dequantised(gradient.dtype)).to(ctx.kind), None  # [batch, time, in]


def of_bitsandbytes(layer: nn.Module) -> Quantised | None:
    """A quantised linear of bitsandbytes, as transformers loads it, as ours; None for any other module."""
    theirs = _bitsandbytes("nn")
    if not isinstance(layer, theirs.Linear4bit | theirs.Linear8bitLt):
        return None
    packed: Any = layer.weight
    shape, transposed = (layer.out_features, layer.in_features), issubclass(layer.source_cls, Conv1D)
    if isinstance(layer, theirs.Linear4bit):
        return Nf4Linear(packed.data, packed.quant_state.absmax, shape, layer.bias, transposed)
    return Int8Linear(packed.data, packed.SCB, shape, layer.bias, transposed)


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that does not train: it moves with the model, and stays out of checkpoints."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


def _bitsandbytes(part: str) -> Any:
    # Of an extra, and slow to import: where a model is quantised, and nowhere else.
    return importlib.import_module(f"bitsandbytes.{part}")
