"""The encoder block of the BERT family (Devlin et al. 2019): norms after the sums, GELU between two linears.

With x the row of tokens [total, hidden], Drop dropout, and Attend of `core/attention.py`:

    h = Norm_1(x + Drop(Attend(x W_q, x W_k, x W_v) W_o))        y = Norm_2(h + Drop(GELU(h W_1) W_2))

Query, key and value are one product. Sums and norms are in float32 under autocast, products in its type. The scale of
the scores is in W_q's copy, that of dropout in those of W_v, W_o and W_2. Where one token a sequence is read after the
last block, all is computed for these tokens alone, without keys and values of the others where `glance.py` can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from tunesmith.core.attention import KEPT, Heads, attend, attend_backward, read_tokens
from tunesmith.core.dropout import Masks, mask_, masked, scale_of, take
from tunesmith.core.layout import Layout
from tunesmith.train.fused.copies import Memory
from tunesmith.train.fused.glance import Glance, trained
from tunesmith.train.fused.products import Linear, Product
from tunesmith.train.fused.tape import Gradients, Tape

LINEARS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "back": "attention.output.dense",
    "wide": "intermediate.dense",
    "narrow": "output.dense",
}
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
DROPOUTS = ("attention.self.dropout", "attention.output.dropout", "output.dropout")
ACTIVATION = "intermediate.intermediate_act_fn"
FIRST = "query key value"
ALL = (*LINEARS.values(), *NORMS, *DROPOUTS, ACTIVATION)


class Bert:
    """A block of the family, recognised by its modules."""

    turned = 0

    def __init__(self, block: nn.Module, heads: Heads) -> None:
        self.block, self.heads = block, heads
        self.width = int(cast(nn.LayerNorm, _module(block, NORMS[0])).normalized_shape[0])
        self.memory = Memory()

    @classmethod
    def of(cls, block: nn.Module) -> Bert | str | None:
        """The block if it is one of the family; None if not; a sentence if it is, but can't run as one function."""
        found = {path: _module(block, path) for path in ALL}
        attention = _module(block, "attention.self")
        size = getattr(attention, "attention_head_size", None)
        if any(module is None for module in found.values()) or not isinstance(size, int):
            return None
        known = {id(p) for module in found.values() if module is not None for p in module.parameters()}
        if any(id(parameter) not in known for parameter in block.parameters()):
            return "It has weights beside those of the family."
        if any(type(found[path]) is not nn.LayerNorm for path in NORMS):
            return "Its norms are no plain layer norms."
        if any(type(found[path]) is not nn.Dropout for path in DROPOUTS):
            return "Its dropouts are no plain ones."
        points = torch.linspace(-4, 4, 17)
        activation = cast(nn.Module, found[ACTIVATION])
        if not torch.allclose(activation(points), gelu(points), atol=1e-6):
            return f"Its activation {type(activation).__name__} is not the exact GELU."
        heads = int(getattr(attention, "num_attention_heads", 0))
        scale = float(getattr(attention, "scaling", size**-0.5))
        return cls(block, Heads(heads, heads, size, scale))

    def work(self, x: Tensor, layout: Layout, one: bool, positions: Sequence[Tensor] = ()) -> _Work | str:
        """What a call on x [1, total, hidden] needs, or why the block's own forward must run.

        one: whether only the tokens of `layout.read` are wanted. positions: none, they are in x.
        """
        linears: dict[str, Linear] = {}
        for name, path in LINEARS.items():
            linear = Linear.of(cast(nn.Module, _module(self.block, path)))
            if isinstance(linear, str):
                return linear
            linears[name] = linear
        norms = [cast(nn.LayerNorm, _module(self.block, path)) for path in NORMS]
        dropouts = [cast(nn.Dropout, _module(self.block, path)) for path in DROPOUTS]
        drops = tuple(dropout.p if dropout.training else 0.0 for dropout in dropouts)
        mixed = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if mixed else x.dtype
        if not mixed and any(t.dtype != dtype for linear in linears.values() for t in linear.tensors):
            return "its weights are of another type than what comes in"
        if max(drops) >= 1:
            return "its dropout drops everything"
        factor = [scale_of(p) if p else 1.0 for p in drops]
        glance = Glance.of(linears["key"], linears["value"], self.heads, factor[0], self.memory) if one else None
        products = self._products(linears, factor, dtype, (one, glance is None))
        sums = torch.float32 if mixed else dtype
        ready = [_Norm.of(norm, sums) for norm in norms]
        return _Work(layout, self.heads, one, (dtype, sums), drops, products, ready, glance)

    def _products(
        self, linears: Mapping[str, Linear], factor: Sequence[float], dtype: torch.dtype, sides: tuple[bool, bool]
    ) -> dict[str, Product]:
        """sides: whether queries stand alone, and whether keys and values are wanted."""
        factors = {"query": self.heads.scale, "value": factor[0], "back": factor[1], "narrow": factor[2]}
        alone, pairs = sides
        first = [("query",), *([("key", "value")] if pairs else [])] if alone else [("query", "key", "value")]
        groups = [*first, ("back",), ("wide",), ("narrow",)]
        return {
            (name := " ".join(group)): Product.of(
                [linears[one] for one in group], [factors.get(one, 1.0) for one in group], dtype, self.memory, name
            )
            for group in groups
        }


@dataclass(frozen=True)
class _Norm:
    """A layer norm: y = (x - mean) / sqrt(variance + eps) * weight + bias."""

    weight: Tensor
    bias: Tensor
    eps: float
    dtype: torch.dtype

    @classmethod
    def of(cls, module: nn.LayerNorm, dtype: torch.dtype) -> _Norm:
        return cls(module.weight, module.bias, module.eps, dtype)

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        weight, bias = self.weight.detach().to(self.dtype), self.bias.detach().to(self.dtype)
        y, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], weight, bias, self.eps)
        tape.push(x, mean, inverse)
        return y

    def backward(self, grad: Tensor, tape: Tape, gradients: Gradients) -> Tensor:
        x, mean, inverse = tape.take(3)
        weight, bias = self.weight.detach().to(self.dtype), self.bias.detach().to(self.dtype)
        wanted = [True, self.weight.requires_grad, self.bias.requires_grad]
        dx, dweight, dbias = torch.ops.aten.native_layer_norm_backward(
            grad, x, x.shape[-1:], mean, inverse, weight, bias, wanted
        )
        for parameter, gradient in ((self.weight, dweight), (self.bias, dbias)):
            if gradient is not None:
                gradients.give(parameter, gradient)
        return cast(Tensor, dx)


@dataclass(frozen=True)
class _Work:
    """One call. types: of products, and of sums and norms. drops: rates after the scores, the attention, the end.
    glance: what gives keys' and values' part where one token is read, if it can be had.
    """

    layout: Layout
    heads: Heads
    one: bool
    types: tuple[torch.dtype, torch.dtype]
    drops: tuple[float, ...]
    products: Mapping[str, Product]
    norms: Sequence[_Norm]
    glance: Glance | None = None

    @cached_property
    def trained(self) -> list[Tensor]:
        linears = [linear for product in self.products.values() for linear in product.linears]
        tensors = [tensor for linear in linears for tensor in linear.tensors]
        tensors += [*trained(self.glance), *(tensor for norm in self.norms for tensor in (norm.weight, norm.bias))]
        return list({id(tensor): tensor for tensor in tensors if tensor.requires_grad}.values())

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        masks = self._masks(x)
        sums = x[0].to(self.types[1])  # [total, hidden]
        out, sums = self._attended(sums, masks, tape)
        sums = self._added(out, sums, masks[1], tape)
        sums = self.norms[0].forward(sums, tape)  # [total or sequences, hidden]
        inner = self.products["wide"].forward(sums.to(self.types[0]), tape)
        tape.push(inner)
        out = self.products["narrow"].forward(gelu(inner), tape)
        sums = self._added(out, sums, masks[2], tape)
        sums = self.norms[1].forward(sums, tape)
        return self._in_batch_order(sums)[None]

    def backward(self, grad: Tensor, tape: Tape, gradients: Gradients, wanted: bool) -> Tensor | None:
        grad = grad[0] if not self.one else grad[0].index_select(0, self.layout.order)
        dsums = self.norms[1].backward(grad.contiguous().to(self.types[1]), tape, gradients)
        dinner = self.products["narrow"].backward(self._dropped(dsums, tape), tape, gradients, True)
        dinner = torch.ops.aten.gelu_backward.grad_input(dinner, tape.pop(), grad_input=dinner)
        dsums = dsums.add_(cast(Tensor, self.products["wide"].backward(dinner, tape, gradients, True)))
        dsums = self.norms[0].backward(dsums, tape, gradients)
        below = wanted or any(tensor.requires_grad for tensor in self._first_tensors)
        dout = self.products["back"].backward(self._dropped(dsums, tape), tape, gradients, below)
        dx = None if dout is None else self._attended_backward(dout, dsums, tape, gradients, wanted)
        return None if dx is None else dx[None]

    @property
    def _first_tensors(self) -> list[Tensor]:
        """The parameters that give queries, keys and values."""
        first = [product for name, product in self.products.items() if name in ("query", "key value", FIRST)]
        linears = [linear for product in first for linear in product.linears]
        return [tensor for linear in linears for tensor in linear.tensors] + [*trained(self.glance)]

    def _masks(self, x: Tensor) -> list[Masks | None]:
        """One stream of masks for each rate."""
        streams = {p: Masks(p, self.types[0], x.device) for p in sorted(set(self.drops)) if p}
        return [streams.get(p) for p in self.drops]

    def _attended(self, sums: Tensor, masks: Sequence[Masks | None], tape: Tape) -> tuple[Tensor, Tensor]:
        """What attention adds to the sums, before dropout, and the sums that it is added to."""
        x = sums.to(self.types[0])
        heads = self._scaled
        if self.one:
            tokens = read_tokens(self.layout)
            sums, queries = sums.index_select(0, tokens), x.index_select(0, tokens)
            queries = self.products["query"].forward(queries, tape)
            if self.glance is not None:
                out = self.glance.forward(x, queries, self.layout, masks[0], tape)
                return self.products["back"].forward(out, tape), sums
            row = self.products["key value"].forward(x, tape)
            out, kept = attend(row, self.layout, heads, masks[0], queries)
        else:
            row = self.products[FIRST].forward(x, tape)
            out, kept = attend(row, self.layout, heads, masks[0])
        tape.push(*kept)
        return self.products["back"].forward(out, tape), sums

    def _attended_backward(
        self, dout: Tensor, dsums: Tensor, tape: Tape, gradients: Gradients, wanted: bool
    ) -> Tensor | None:
        """The gradient of the block's input, if it is wanted."""
        dqueries: Tensor | None
        if self.glance is not None:
            dx, dqueries = self.glance.backward(dout, self.layout, tape, gradients, wanted)
            dread = self.products["query"].backward(dqueries, tape, gradients, wanted)
            return self._joined(dx, dread, dsums)
        kept = tape.take(KEPT * len(self.layout.chunks))
        drow, dqueries = attend_backward(dout, kept, self.layout, self._scaled, self.one)
        if dqueries is None:
            dx = self.products[FIRST].backward(drow, tape, gradients, wanted)
            return None if dx is None else dsums.add_(dx)
        dx = self.products["key value"].backward(drow, tape, gradients, wanted)
        dread = self.products["query"].backward(dqueries, tape, gradients, wanted)
        return self._joined(dx, dread, dsums)

    def _joined(self, dx: Tensor | None, dread: Tensor | None, dsums: Tensor) -> Tensor | None:
        """The gradient of all tokens, with that of the sums and queries of those that are read."""
        if dx is None or dread is None:
            return None
        return dx.to(dsums.dtype).index_add_(0, read_tokens(self.layout), dsums.add_(dread))

    @property
    def _scaled(self) -> Heads:
        """The heads, whose queries are scaled by the copy of their weight."""
        return Heads(self.heads.queries, self.heads.keys, self.heads.size, 1.0)

    def _added(self, out: Tensor, sums: Tensor, masks: Masks | None, tape: Tape) -> Tensor:
        """Drop(out) + sums; dropout's scale is in the weights that gave `out`."""
        mask = take(masks, out.shape)
        tape.push(mask)
        return mask_(out, mask).to(self.types[1]).add_(sums)

    def _dropped(self, dsums: Tensor, tape: Tape) -> Tensor:
        """The gradient of what was added to the sums."""
        mask = tape.pop()
        if self.types[0] == self.types[1]:
            return masked(dsums, mask)
        return mask_(dsums.to(self.types[0]), mask)

    def _in_batch_order(self, sums: Tensor) -> Tensor:
        if not self.one:
            return sums
        return sums.new_zeros(self.layout.shape[0], sums.shape[1]).index_copy_(0, self.layout.order, sums)


def _module(block: nn.Module, path: str) -> nn.Module | None:
    found: Any = block
    for name in path.split("."):
        found = found._modules.get(name) if isinstance(found, nn.Module) else None
    return cast("nn.Module | None", found)
