"""A linear with a low-rank product beside it as one step: forward and backward by hand, so that both share their input,
its type and one output, and keep only what the gradients need.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from tunesmith.core.dropout import Masks, mask_, masked, scale_of
from tunesmith.core.surgery import LowRank


@dataclass(frozen=True)
class Frozen:
    """A linear that does not train: x M + bias, with the matrix M [in, out]."""

    matrix: Tensor
    bias: Tensor | None


def frozen(base: nn.Module) -> Frozen | None:
    """The numbers of a linear that does nothing but x M + bias and does not train; None where it does more."""
    if type(base) not in (nn.Linear, Conv1D) or "forward" in vars(base):
        return None
    if base._forward_hooks or base._forward_pre_hooks or any(one.requires_grad for one in base.parameters()):
        return None
    weight = cast(Tensor, base.weight)
    return Frozen(weight if isinstance(base, Conv1D) else weight.t(), cast("Tensor | None", base.bias))


def added(x: Tensor, base: Frozen | Tensor, product: LowRank, dropout: nn.Module) -> Tensor:
    """The output of a linear with a low-rank product added: [..., in] -> [..., out].

    Formula: y = x M + c + s ((d * x) A^T) B^T; with g = dL/dy: dL/dB = s g^T ((d * x) A^T),
    dL/dA = s (g B)^T (d * x), dL/dx = g M^T + s d * (g B A).
    Symbols: M [in, out] and c [out] the frozen linear `base`, which may be x M + c itself; A [rank, in], B [out, rank]
    and s the `product`'s; d the mask of `dropout`, over the share that it keeps. In autocast's type where it is on;
    else x M + c is in M's type, which is the result's, and the product in A's.
    """
    device = x.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    flat = x.reshape(-1, x.shape[-1])  # [tokens, in]
    mask, scale = _drawn(dropout, flat, kind or product.a.dtype)
    plan = _Plan(None, product.scale * scale, kind, mask)
    y: Tensor | None = None
    if isinstance(base, Tensor):
        y = base.reshape(-1, base.shape[-1])  # [tokens, out]
    else:
        plan = replace(plan, base=base)
    with torch.autocast(device, enabled=False):
        found: Tensor = _Added.apply(flat, product.a, product.b, y, plan)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], found.shape[-1])


def _drawn(dropout: nn.Module, x: Tensor, kind: torch.dtype) -> tuple[Tensor | None, float]:
    """A mask for numbers of the type `kind` in the shape of x, as `core.dropout` has them, and what makes up for what
    it drops. The numbers are drawn as the module draws them: fast, where it was told to, or as torch does.
    """
    p = float(dropout.p)  # type: ignore[arg-type]
    if not dropout.training or not p:
        return None, 1.0
    if "forward" in vars(dropout) and x.device.type == "cpu":
        return Masks(p, kind).take(x.shape), scale_of(p)
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[kind.itemsize]
    return torch.empty(x.shape, dtype=whole, device=x.device).bernoulli_(1 - p).neg_(), 1 / (1 - p)


@dataclass(frozen=True)
class _Plan:
    """base: the linear, None where its output is given. scale: of the product. kind: autocast's type, None without it.
    mask [tokens, in]: the dropout's; None: nothing is dropped.
    """

    base: Frozen | None
    scale: float
    kind: torch.dtype | None
    mask: Tensor | None = None


class _Added(torch.autograd.Function):
    """`added` of x [tokens, in]; y [tokens, out] is the base's output where that is given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, y: Tensor | None, plan: _Plan) -> Tensor:
        down, up = (one.to(plan.kind or one.dtype) for one in (a, b))
        dropped = masked(x.to(down.dtype), plan.mask)
        low = dropped @ down.t()  # [tokens, rank]
        if plan.base is not None:
            y = _linear(x if plan.mask is not None else dropped, plan.base, plan.kind)
        else:
            y = cast(Tensor, y).clone()  # it belongs to another
        ctx.save_for_backward(dropped if ctx.needs_input_grad[1] else None, low, a, b, plan.mask)
        ctx.plan, ctx.kind = replace(plan, mask=None), x.dtype
        return _add(y, low, up.t(), plan.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        dropped, low, a, b, mask = ctx.saved_tensors
        plan, wanted = ctx.plan, ctx.needs_input_grad
        down, up = (one.to(plan.kind or one.dtype) for one in (a, b))
        g = gradient.to(low.dtype)  # [tokens, out]
        back = (g @ up).mul_(plan.scale)  # [tokens, rank]
        of_a = (back.t() @ dropped).to(a.dtype) if wanted[1] else None
        of_b = (low.t() @ g).t().mul(plan.scale).to(b.dtype) if wanted[2] else None
        of_x = None
        if wanted[0]:
            of_x = _back(gradient, back, down, plan, mask).to(ctx.kind)
        return of_x, of_a, of_b, gradient if wanted[3] else None, None


def _linear(x: Tensor, base: Frozen, kind: torch.dtype | None) -> Tensor:
    """x M + c: [tokens, in] -> [tokens, out]."""
    kind = kind or base.matrix.dtype
    x, matrix = x.to(kind), base.matrix.to(kind)
    return x @ matrix if base.bias is None else torch.addmm(base.bias.to(kind), x, matrix)


def _back(gradient: Tensor, back: Tensor, down: Tensor, plan: _Plan, mask: Tensor | None) -> Tensor:
    """g M^T + d * (back A): [tokens, in]."""
    if plan.base is None:
        return mask_(back @ down, mask)
    of_x = gradient @ plan.base.matrix.to(gradient.dtype).t()
    if mask is None:
        return _add(of_x, back, down, 1.0)
    return of_x.add_(mask_(back @ down, mask))


def _add(y: Tensor, one: Tensor, other: Tensor, scale: float) -> Tensor:
    """y + scale * one other, in y's memory and type."""
    if y.dtype == one.dtype:
        return y.addmm_(one, other, alpha=scale)
    return y.add_((scale * (one @ other)).to(y.dtype))
