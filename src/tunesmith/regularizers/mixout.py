"""Mixout: in every step a part of the weights is as it was at the start."""

from __future__ import annotations

import copy
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from tunesmith.core import anatomy
from tunesmith.core.part import Part
from tunesmith.core.step import Training


def mixed(weight: Tensor, start: Tensor, kept: Tensor, share: float) -> Tensor:
    """start + kept / (1 - share) * (weight - start): the start where `kept` is 0, and the weight in the mean over masks
    that are 1 with probability 1 - share. `kept` has the weight's shape, or one that spreads to it.
    """
    return torch.lerp(start, weight, (kept / (1 - share)).to(weight.dtype))


class Mixout(Part):
    """While training, use the starting weights for a random part of the inputs of every linear in the blocks.

    Formula: w' = (M w + (1 - M) w0 - share * w0) / (1 - share), so that the mean of w' over the masks is w.
    Symbols: w the weight now, w0 at the start; M [in], or [out, in] with `each`, 1 with probability 1 - share, drawn
    anew in every forward pass. Shapes: w' has w's, [out, in]. Evaluation uses w.
    Paper: Lee, Cho and Kang, "Mixout: Effective Regularization to Finetune Large-scale Pretrained Language Models",
    2020. As in the authors' code, M is drawn for input features and stands in the place of the dropout before a linear,
    which is switched off in the backbone. The gradient is that of the formula; theirs leaves 1 / (1 - share) out.
    """

    share: float = Field(0.1, ge=0, lt=1)
    """Share of the weights that are as at the start; 0 leaves dropout on."""
    each: bool = False
    """Draw for every weight by itself instead of for all weights of an input feature."""

    def setup(self, training: Training) -> None:
        """Let the linears of the blocks mix, and switch dropout off."""
        start = training.start.weights
        if not self.share or not start:
            return
        for path, place in anatomy.linears(training.model).items():
            if f"{path}.weight" in start:
                vars(place)["forward"] = _Mixing(place, start[f"{path}.weight"], self)
        for module in anatomy.backbone(training.model).modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0


class _Mixing:
    """What a linear does instead of its own forward. It holds the module, so that a deep copy of the model holds the
    copy; the start is shared.
    """

    def __init__(self, module: nn.Module, start: Tensor, settings: Mixout) -> None:
        self.module, self.start, self.settings = module, start, settings

    def __deepcopy__(self, memo: dict[int, Any]) -> _Mixing:
        return _Mixing(copy.deepcopy(self.module, memo), self.start, self.settings)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        module: Any = self.module
        if not module.training:
            out: Tensor = type(module).forward(module, x)
            return out
        transposed = isinstance(module, Conv1D)  # its weight is [in, out]
        weight: Tensor = module.weight
        shape = (
            list(weight.shape) if self.settings.each else [weight.shape[0], 1] if transposed else [1, weight.shape[1]]
        )
        kept = (torch.rand(shape, device=weight.device) >= self.settings.share).to(weight.dtype)
        now = mixed(weight, self.start.to(weight.device, weight.dtype), kept, self.settings.share)
        return linear(x, now.t() if transposed else now, module.bias)
