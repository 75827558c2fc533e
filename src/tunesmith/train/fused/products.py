"""Linears that read the same numbers as one matrix product, and what low-rank methods put beside them.

For linears i with weight W_i [out_i, in], bias b_i, and where there is one a low-rank pair A_i [rank_i, in],
B_i [out_i, rank_i] of scale s_i with dropout mask D_i (Hu et al., "LoRA", 2021), and a factor f_i (what a later step
would multiply by: the scale of attention's scores, or of dropout):

    y_i = f_i (x W_i^T + b_i + s_i (D_i * x) A_i^T B_i^T)        y = [y_1, y_2, ...]

Copies in the type that is computed in, with the factors in them, are made when a parameter has changed: once a step for
what trains, once for what is frozen. The backward pass keeps x only where a weight or an A trains, and of a low-rank
pair the small product with A alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from tunesmith.core import surgery
from tunesmith.core.dropout import Masks, masked, scale_of
from tunesmith.train.fused.copies import Memory
from tunesmith.train.fused.matrix import Both, Matrix, Packed, Plain, packs
from tunesmith.train.fused.tape import Gradients, Tape
from tunesmith.train.fused.thin import across, add_up_, down


@dataclass(frozen=True)
class Linear:
    """What one linear computes with; low.dropout is 0 where nothing drops now."""

    weight: Tensor
    bias: Tensor | None
    low: surgery.LowRank | None = None

    @classmethod
    def of(cls, module: nn.Module) -> Linear | str:
        """What `module` stands for, or why it is no plain linear."""
        if type(module) is nn.Linear:
            return cls(module.weight, module.bias)
        if not isinstance(module, surgery.Wrapper) or type(module.base) is not nn.Linear:
            stacked = isinstance(module, surgery.Wrapper) and isinstance(module.base, surgery.Wrapper)
            return f"{type(module).__name__} {'stands on another delta' if stacked else 'is no plain linear'}"
        base = cls(module.base.weight, module.base.bias)
        if not module.active:
            return base
        low = module.low_rank()
        if low is None:
            return f"{type(module).__name__} adds more than a low-rank product"
        dropout = low.dropout if module.training else 0.0
        return cls(base.weight, base.bias, surgery.LowRank(low.a, low.b, low.scale, dropout))

    @property
    def own(self) -> list[Tensor]:
        """Weight and bias."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    @property
    def tensors(self) -> list[Tensor]:
        """All of its parameters."""
        return self.own if self.low is None else [*self.own, self.low.a, self.low.b]


@dataclass(frozen=True)
class _Low:
    """The low-rank pairs of all linears as one: a [ranks, in], b [out, ranks] with scales and factors in it, zero where
    a pair does not write. of: the linear of each pair; ranks: how many rows of `a` are its own.
    """

    a: Tensor
    b: Tensor
    of: tuple[int, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """Several linears as one product, ready for one call."""

    linears: tuple[Linear, ...]
    factors: tuple[float, ...]
    matrix: Matrix
    low: _Low | None

    @classmethod
    def of(
        cls, linears: Sequence[Linear], factors: Sequence[float], dtype: torch.dtype, memory: Memory, name: str
    ) -> Product:
        """The product of these linears in `dtype`. Its copies are kept in `memory` under `name`."""
        linears, factors = tuple(linears), tuple(factors)
        plain = [tensor for linear in linears for tensor in linear.own]
        trains = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in plain)
        packed = not trains and packs(plain[0].device, dtype)
        matrix = memory.of(name, plain, (dtype, factors, packed), lambda: _matrix(linears, factors, dtype, packed))
        pairs = [linear.low for linear in linears if linear.low is not None]
        if not pairs:
            return cls(linears, factors, matrix, None)
        tensors = [tensor for pair in pairs for tensor in (pair.a, pair.b)]
        settings = (dtype, factors, tuple((pair.scale, pair.dropout) for pair in pairs))
        low = memory.of(f"{name}: low", tensors, settings, lambda: _low(linears, factors, dtype))
        return cls(linears, factors, matrix, low)

    def forward(self, x: Tensor, tape: Tape, keep: bool = True) -> Tensor:
        """[tokens, in] -> [tokens, out]. keep: False where `backward` is given x again."""
        y = self.matrix.forward(x)
        tape.push(x if keep and self.reads_input else None)
        if self.low is not None:
            masks = self._masks(x)
            small = self._small(x, masks)
            add_up_(y, small, self.low.b)
            tape.push(*masks, small)
        return y

    def backward(
        self, grad: Tensor, tape: Tape, gradients: Gradients, wanted: bool, again: Tensor | None = None
    ) -> Tensor | None:
        """The gradient of x [tokens, in] if it is wanted, from that of y [tokens, out]. again: x, if none was kept."""
        dx = self.matrix.backward(grad) if wanted else None
        small, masks = (tape.pop(), tape.take(len(self.low.of))) if self.low is not None else (None, [])
        kept = tape.pop()
        x = kept if again is None else again
        if self.low is not None and small is not None:
            dsmall = down(grad, self.low.b.t())  # [tokens, ranks]
            self._give_low(grad, dsmall, small, (x, masks), gradients)
            if dx is not None:
                self._add_low(dx, dsmall, masks)
        self._give(grad, x, gradients)
        return dx

    @property
    def reads_input(self) -> bool:
        """Whether the backward pass needs x."""
        return any(
            linear.weight.requires_grad or (linear.low is not None and linear.low.a.requires_grad)
            for linear in self.linears
        )

    def _masks(self, x: Tensor) -> list[Tensor | None]:
        assert self.low is not None
        rates = [low.dropout for linear in self.linears if (low := linear.low) is not None]
        return [Masks(p, x.dtype, x.device).take(x.shape) if p else None for p in rates]

    def _small(self, x: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
        """[tokens, in] -> [tokens, ranks]."""
        assert self.low is not None
        if all(mask is None for mask in masks):
            return down(x, self.low.a)
        parts = self.low.a.split(self.low.ranks)
        return torch.cat([down(masked(x, m), a) for m, a in zip(masks, parts, strict=True)], dim=1)

    def _add_low(self, dx: Tensor, dsmall: Tensor, masks: Sequence[Tensor | None]) -> None:
        assert self.low is not None
        if all(mask is None for mask in masks):
            add_up_(dx, dsmall, self.low.a.t())
            return
        parts = zip(dsmall.split(self.low.ranks, dim=1), self.low.a.split(self.low.ranks), masks, strict=True)
        for part, a, mask in parts:
            dx.add_(masked(down(part, a.t()), mask))

    def _give_low(
        self,
        grad: Tensor,
        dsmall: Tensor,
        small: Tensor,
        read: tuple[Tensor | None, Sequence[Tensor | None]],
        gradients: Gradients,
    ) -> None:
        assert self.low is not None
        x, masks = read
        sizes = [linear.weight.shape[0] for linear in self.linears]
        # One product for every B: of each pair's rows only the columns of its own linear are its gradient.
        trains = any(linear.low is not None and linear.low.b.requires_grad for linear in self.linears)
        each_b = across(small, grad).split(self.low.ranks) if trains else [None] * len(masks)
        for number, da, db in zip(self.low.of, self._for_a(dsmall, x, masks), each_b, strict=True):
            low = self.linears[number].low
            assert low is not None
            if da is not None:
                gradients.give(low.a, da)
            if db is not None:
                own = db.split(sizes, 1)[number].t().to(low.b.dtype)
                gradients.give(low.b, own * _strength(low, self.factors[number]))

    def _for_a(self, dsmall: Tensor, x: Tensor | None, masks: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """The gradient of each A, [rank, in]."""
        assert self.low is not None
        if x is None:
            return [None] * len(masks)
        if all(mask is None for mask in masks):
            found: Sequence[Tensor | None] = across(dsmall, x).split(self.low.ranks)
            return found
        parts = zip(dsmall.split(self.low.ranks, 1), masks, strict=True)
        return [across(part, masked(x, mask)) for part, mask in parts]

    def _give(self, grad: Tensor, x: Tensor | None, gradients: Gradients) -> None:
        """Gradients of weights and biases."""
        if not any(tensor.requires_grad for linear in self.linears for tensor in linear.own):
            return
        sizes = [linear.weight.shape[0] for linear in self.linears]
        weights = [linear.weight.requires_grad for linear in self.linears]
        if all(weights) and x is not None:
            # One product for all; each takes its rows of it.
            dweights = torch.mm(grad.t(), x).to(self.linears[0].weight.dtype).split(sizes)
        parts = zip(self.linears, self.factors, grad.split(sizes, dim=1), range(len(sizes)), strict=True)
        for linear, factor, part, number in parts:
            if linear.weight.requires_grad and x is not None:
                dweight = dweights[number] if all(weights) else torch.mm(part.t(), x).to(linear.weight.dtype)
                gradients.give(linear.weight, dweight if factor == 1 else dweight.mul_(factor))
            if linear.bias is not None and linear.bias.requires_grad:
                dbias = part.sum(0).to(linear.bias.dtype)
                gradients.give(linear.bias, dbias if factor == 1 else dbias.mul_(factor))


def _strength(low: surgery.LowRank, factor: float) -> float:
    """What B is multiplied by: the pair's scale, its linear's factor, and the scale of its dropout."""
    return low.scale * factor * (scale_of(low.dropout) if low.dropout else 1.0)


def _matrix(linears: Sequence[Linear], factors: Sequence[float], dtype: torch.dtype, packed: bool) -> Matrix:
    if packed:
        return Packed(lambda: _whole(linears, factors, dtype))
    return Plain(*_whole(linears, factors, dtype))


def _whole(linears: Sequence[Linear], factors: Sequence[float], dtype: torch.dtype) -> Both:
    """Weight [out, in] and bias [out] of all linears, in `dtype`, with the factors in them."""
    weight = _stacked([linear.weight for linear in linears], factors, dtype)
    biases = [linear.bias for linear in linears]
    if all(bias is None for bias in biases):
        return weight, None
    there = [
        linear.weight.new_zeros(linear.weight.shape[0]) if b is None else b
        for linear, b in zip(linears, biases, strict=True)
    ]
    return weight, _stacked(there, factors, dtype)


def _stacked(tensors: Sequence[Tensor], factors: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Tensors below each other, each times its factor. One that needs nothing is itself: no copy."""
    tensors = [tensor.detach() for tensor in tensors]
    if len(tensors) == 1 and factors[0] == 1:
        return tensors[0].to(dtype)
    sizes = [tensor.shape[0] for tensor in tensors]
    out = tensors[0].new_empty(sum(sizes), *tensors[0].shape[1:], dtype=dtype)
    for part, tensor, factor in zip(out.split(sizes), tensors, factors, strict=True):
        part.copy_(tensor if factor == 1 else tensor * factor)
    return out


def _low(linears: Sequence[Linear], factors: Sequence[float], dtype: torch.dtype) -> _Low:
    pairs = [(number, linear.low) for number, linear in enumerate(linears) if linear.low is not None]
    ranks = tuple(low.a.shape[0] for _, low in pairs)
    numbers = tuple(number for number, _ in pairs)
    scaled = [low.b * _strength(low, factors[number]) for number, low in pairs]
    if len(linears) == 1:
        return _Low(pairs[0][1].a.to(dtype), scaled[0].to(dtype), numbers, ranks)
    starts = list(accumulate((linear.weight.shape[0] for linear in linears), initial=0))
    b = scaled[0].new_zeros(starts[-1], sum(ranks), dtype=dtype)
    for number, columns, own in zip(numbers, b.split(ranks, dim=1), scaled, strict=True):
        columns[starts[number] : starts[number + 1]] = own
    return _Low(torch.cat([low.a for _, low in pairs]).to(dtype), b, numbers, ranks)
