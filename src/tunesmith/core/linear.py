"""Linear layers of every make: `nn.Linear`, GPT-2's Conv1D, and quantised ones, read and written in one orientation.

A weight is [out, in] here, whatever the layer stores; that of a quantised layer is what the layer computes with.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.core.quantised import Quantised, frozen
from tunesmith.core.sealed import core, plain


def features(linear: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear."""
    linear = core(linear)
    if isinstance(linear, Conv1D):
        return int(linear.weight.shape[0]), int(linear.weight.shape[1])
    return int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]


def transposed(linear: nn.Module) -> bool:
    """Whether the layer stores its weight as [in, out], or stands for one that does: GPT-2's Conv1D."""
    linear = core(linear)
    return linear.transposed if isinstance(linear, Quantised) else isinstance(linear, Conv1D)


def weight_of(linear: nn.Module) -> Tensor:
    """A linear's weight in float32 (float64 where it is that), [out, in]; it shares no memory that may be written.

    Of one that an earlier delta wraps, with that in it; one that no weight stands for raises ModelError.
    """
    linear = plain(linear)
    if isinstance(linear, Quantised):
        return linear.dequantised()
    weight = cast(Tensor, linear.weight).detach()
    if not weight.dtype.is_floating_point:
        raise TypeError(f"{type(linear).__name__} holds {weight.dtype}")
    return exact(weight).T if isinstance(linear, Conv1D) else exact(weight)


def exact(tensor: Tensor) -> Tensor:
    """The tensor without a gradient, in float32, or in float64 where it is that: what weights are merged in."""
    return tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()


def with_weight(linear: nn.Module, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """A plain copy of `linear` with another weight [out, in] and, where given, another bias [out]; types are kept.

    A quantised layer's copy is of the make that the layer stands for, and in the type of `weight`: float32.
    """
    linear = plain(linear)
    made = _unpacked(linear, weight.dtype) if isinstance(linear, Quantised) else copy.deepcopy(linear)
    stored = weight.T if isinstance(made, Conv1D) else weight
    kept = cast(Tensor, made.weight)
    made.weight = nn.Parameter(stored.to(kept.dtype).contiguous(), requires_grad=kept.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.to(kept.dtype), requires_grad=kept.requires_grad)
    return made


def _unpacked(layer: Quantised, kind: torch.dtype) -> nn.Linear | Conv1D:
    """A plain layer with a quantised one's bias, and no weight yet."""
    inputs, outputs = features(layer)
    with torch.device("meta"):  # no memory, and no random numbers
        plain = Conv1D(outputs, inputs) if layer.transposed else nn.Linear(inputs, outputs, layer.bias is not None)
    plain.to(kind).requires_grad_(False)
    if layer.bias is not None:
        plain.bias = frozen(layer.bias.to(kind, copy=True))
    return plain


def in_type_of(parameter: Tensor, x: Tensor) -> Tensor:
    """`x` in the type of a module's own parameters: a backbone in bfloat16 may have matrices in float32 beside it.

    Under autocast `x` as it is: autocast brings both to one type by itself.
    """
    return x if torch.is_autocast_enabled(x.device.type) else x.to(parameter.dtype)
