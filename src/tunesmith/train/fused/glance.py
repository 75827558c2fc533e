"""Attention of one token a sequence that needs no keys and no values of the others.

Where one token's query q_h [size] (of head h, scaled) is all that is asked for, keys' and values' weights can go to
its side. With x the sequence's tokens [time, hidden], W_h and V_h [size, hidden] head h's rows of the weights of keys
and values, c the bias of values, f a factor, D dropout's mask, C as in `core/attention.py`:

    u_h = q_h W_h        p_h = softmax(u_h x^T + C)        r_h = (D * p_h) x
    o_h = f (r_h V_h^T + sum(D * p_h) c_h)

which is f (D * p_h) (x V_h^T + c_h): two products with all tokens for each head and none of [hidden, hidden] for each
token. A bias of keys adds the same to every score, so that the softmax, and the gradient, know nothing of it.
Low-rank pairs are in W and V, which are at least float32; u, p and r are in the type of products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.core.attention import Heads, closed, padded, unpad
from tunesmith.core.dropout import Masks, masked, take
from tunesmith.core.layout import Layout
from tunesmith.train.fused.copies import Memory
from tunesmith.train.fused.products import Linear
from tunesmith.train.fused.tape import Gradients, Tape
from tunesmith.train.fused.turn import wide

OWN, EACH = 4, 3
"""How many tensors are kept, once and for each chunk."""


@dataclass(frozen=True)
class Glance:
    """One call. weights: those of keys and values, [heads, size, hidden]. factor: f."""

    linears: tuple[Linear, Linear]
    weights: tuple[Tensor, Tensor]
    heads: Heads
    factor: float

    @classmethod
    def of(cls, key: Linear, value: Linear, heads: Heads, factor: float, memory: Memory) -> Glance | None:
        """None where it can't be had: heads share keys, or a low-rank pair drops out of each token's input."""
        if heads.group != 1 or any(linear.low is not None and linear.low.dropout for linear in (key, value)):
            return None
        weights = [_whole(linear, memory, name) for linear, name in ((key, "key"), (value, "value"))]
        shape = (heads.keys, heads.size, -1)
        return cls((key, value), (weights[0].view(shape), weights[1].view(shape)), heads, factor)

    def forward(self, x: Tensor, queries: Tensor, layout: Layout, masks: Masks | None, tape: Tape) -> Tensor:
        """x [total, hidden] and queries [sequences, heads * size] -> [sequences, heads * size]."""
        weight_k, weight_v = self.weights
        u = _by_head(self._divided(queries).to(weight_k.dtype), weight_k).to(x.dtype)  # [sequences, heads, hidden]
        r, kept = torch.empty_like(u), []
        total = u.new_empty(u.shape[:2], dtype=weight_v.dtype)  # sum(D * p)
        for chunk in layout.chunks:
            seen = padded(x[chunk.start : chunk.stop], chunk).view(-1, chunk.time, x.shape[1])
            scores = torch.bmm(u[chunk.first : chunk.last], seen.transpose(1, 2)).to(wide(x.dtype))
            shut = closed(layout, chunk, one=True)
            if shut is not None:
                scores.add_(shut.squeeze(1))
            p = torch.softmax(scores, -1).to(x.dtype)  # [sequences, heads, time]
            mask = take(masks, p.shape)
            part = masked(p, mask)
            r[chunk.first : chunk.last] = torch.bmm(part, seen)
            total[chunk.first : chunk.last] = part.sum(-1, dtype=total.dtype)
            kept += [seen, p, mask]
        tape.push(*kept, queries, u, r, total)
        out = _by_head(r.to(weight_v.dtype), weight_v.transpose(1, 2))
        if self._bias is not None:
            out.add_(total[..., None] * self._bias)
        return out.mul_(self.factor).to(x.dtype).flatten(1)

    def backward(
        self, grad: Tensor, layout: Layout, tape: Tape, gradients: Gradients, wanted: bool
    ) -> tuple[Tensor | None, Tensor]:
        """The gradients of x, if it is wanted, and of the queries."""
        weight_k, weight_v = self.weights
        queries, u, r, total = tape.take(OWN)
        kept = tape.take(EACH * len(layout.chunks))
        g = self._divided(grad).to(weight_v.dtype).mul_(self.factor)
        dr = _by_head(g, weight_v).to(u.dtype)
        dtotal = None if self._bias is None else (g * self._bias).sum(-1, keepdim=True).to(u.dtype)
        du = torch.empty_like(u)
        dx = u.new_empty(layout.total, u.shape[2]) if wanted else None
        for number, chunk in enumerate(layout.chunks):
            seen, p, mask = kept[EACH * number : EACH * (number + 1)]
            mine = slice(chunk.first, chunk.last)
            dp = torch.bmm(dr[mine], seen.transpose(1, 2))
            dp = masked(dp if dtotal is None else dp.add_(dtotal[mine]), mask)
            exact = wide(p.dtype)
            ds = torch._softmax_backward_data(dp.to(exact), p.to(exact), -1, exact).to(p.dtype)
            du[mine] = torch.bmm(ds, seen)
            if dx is not None:
                left, right = torch.cat([masked(p, mask), ds], 1), torch.cat([dr[mine], u[mine]], 1)
                dseen = torch.bmm(left.transpose(1, 2), right).flatten(0, 1)
                unpad(dseen, chunk, dx[chunk.start : chunk.stop])
        if dx is not None:
            dx[layout.tokens :] = 0
        du = du.to(weight_k.dtype)
        self._give(self._divided(queries).to(du.dtype), du, g, (r, total), gradients)
        return dx, _by_head(du, weight_k.transpose(1, 2)).to(grad.dtype).flatten(1)

    @property
    def _bias(self) -> Tensor | None:
        """That of values, [heads, size]."""
        bias, like = self.linears[1].bias, self.weights[1]
        return None if bias is None else bias.detach().to(like.dtype).view(like.shape[:2])

    def _divided(self, x: Tensor) -> Tensor:
        """[sequences, heads * size] -> [sequences, heads, size]."""
        return x.view(x.shape[0], self.heads.keys, self.heads.size)

    def _give(self, queries: Tensor, du: Tensor, g: Tensor, read: tuple[Tensor, Tensor], gradients: Gradients) -> None:
        (key, value), (r, total) = self.linears, read
        if any(tensor.requires_grad for tensor in key.tensors):
            _give(key, queries, du, gradients)
            if key.bias is not None:
                gradients.give(key.bias, torch.zeros_like(key.bias))
        if any(tensor.requires_grad for tensor in value.tensors):
            _give(value, g, r.to(g.dtype), gradients)
            if value.bias is not None:
                gradients.give(value.bias, (g * total[..., None]).sum(0).flatten())


def _by_head(x: Tensor, weights: Tensor) -> Tensor:
    """x [sequences, heads, a] and weights [heads, a, b] -> [sequences, heads, b]."""
    return torch.bmm(x.transpose(0, 1), weights).transpose(0, 1).contiguous()


def _whole(linear: Linear, memory: Memory, name: str) -> Tensor:
    """The weight with its low-rank pair, W + s B A, in at least float32: [out, in]."""
    low = linear.low
    if low is None:
        return linear.weight.detach().to(wide(linear.weight.dtype))

    def make() -> Tensor:
        weight, a, b = (tensor.to(wide(tensor.dtype)) for tensor in (linear.weight, low.a, low.b))
        return torch.addmm(weight, b, a, alpha=low.scale)

    return memory.of(f"{name}: whole", [linear.weight, low.a, low.b], low.scale, make)


def _give(linear: Linear, left: Tensor, right: Tensor, gradients: Gradients) -> None:
    """The gradients of a weight [heads * size, hidden] and of its pair, from left [sequences, heads, size] and right
    [sequences, heads, hidden].
    """
    dweight = torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1)).flatten(0, 1)
    gradients.give(linear.weight, dweight)
    low = linear.low
    if low is not None:
        gradients.give(low.a, low.b.detach().to(dweight.dtype).t().mm(dweight).mul_(low.scale))
        gradients.give(low.b, dweight.mm(low.a.detach().to(dweight.dtype).t()).mul_(low.scale))


def trained(glance: Glance | None) -> Sequence[Tensor]:
    """All parameters of keys and values."""
    return () if glance is None else [tensor for linear in glance.linears for tensor in linear.tensors]
