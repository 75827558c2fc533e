"""The norm of the root mean square (Zhang and Sennrich 2019), by hand.

With w a weight [numbers], f a factor (what a later step would multiply by), and means over the numbers:

    r = sqrt(mean(x^2) + eps)        y = f w x / r
    dx = f w dy / r - x mean(f w dy x) / r^3        dw = f sum(dy x / r)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.train.fused.tape import Gradients, Tape
from tunesmith.train.fused.turn import wide


@dataclass(frozen=True)
class RootNorm:
    """One norm; dtype: that of y. Inside at least float32 is computed in."""

    weight: Tensor
    eps: float
    factor: float
    dtype: torch.dtype

    @classmethod
    def of(cls, module: nn.Module, dtype: torch.dtype, factor: float = 1.0) -> RootNorm:
        """That of a module for which `is_root_norm` holds."""
        return cls(cast(Tensor, module.weight), _eps(module), factor, dtype)

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        """[..., numbers]; x is kept, so that nobody may write to it."""
        exact = x.to(wide(x.dtype))
        length = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
        inverse = length.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()  # 1 / r: [..., 1]
        tape.push(x, inverse)
        y: Tensor = (exact * inverse).mul_(self._weight(inverse.dtype))
        return y.to(self.dtype)

    def backward(self, grad: Tensor, onto: Tensor | None, tape: Tape, gradients: Gradients) -> Tensor:
        """The gradient of x, plus `onto` where there is one, in new memory."""
        x, inverse = tape.take(2)
        weight, grad = self._weight(inverse.dtype), grad.to(inverse.dtype)
        pull = (grad * x).flatten(0, -2)  # [rows, numbers]
        if self.weight.requires_grad:
            gradients.give(self.weight, torch.mv(pull.t(), inverse.flatten()).mul_(self.factor))
        mean = torch.mv(pull, weight).div_(x.shape[-1]).view_as(inverse).mul_(inverse.pow(3))
        scaled = grad * weight
        dx = scaled.mul_(inverse) if onto is None else torch.addcmul(onto.to(scaled.dtype), scaled, inverse)
        return dx.addcmul_(x, mean, value=-1).to(x.dtype)

    def _weight(self, dtype: torch.dtype) -> Tensor:
        weight = self.weight.detach().to(dtype)
        return weight if self.factor == 1 else weight * self.factor


def is_root_norm(module: nn.Module, numbers: int | None = None) -> bool:
    """Whether a module looks like such a norm: nothing but a weight [numbers], and an epsilon."""
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    if list(shapes) != ["weight"] or len(shapes["weight"]) != 1 or list(module.children()):
        return False
    return isinstance(_eps(module), float) and numbers in (None, *shapes["weight"])


def _eps(module: nn.Module) -> float:
    return cast(float, getattr(module, "variance_epsilon", getattr(module, "eps", None)))
