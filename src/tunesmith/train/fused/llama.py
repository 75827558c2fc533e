"""The decoder block of the Llama family (Touvron et al. 2023): norms before the products, a gate in the second half.

With x the row of tokens [total, hidden], Attend of `core/attention.py`, and Turn the rotation of queries and keys by
position (Su et al., "RoFormer", 2021):

    n = Norm_1(x)        h = x + Attend(Turn(n W_q), Turn(n W_k), n W_v) W_o
    m = Norm_2(h)        y = h + (SiLU(m W_gate) * (m W_up)) W_down

Norm is that of the root mean square (Zhang and Sennrich 2019). There may be biases, and a norm of each head's queries
and keys before they are turned. Query, key and value are one product; gate and up are two, because work on each number
of the halves of one result is slower than on two of their own. Sums, norms and turning are in float32 under autocast,
products in its type. The scale of the scores is in the copy of W_q (or of the queries' norm), that of dropout in W_v's.
Where one token a sequence is read after the last block, all but keys and values are computed for these tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from tunesmith.core.attention import KEPT, LONG, Heads, attend, attend_backward, read_tokens
from tunesmith.core.dropout import Masks, scale_of
from tunesmith.core.layout import Layout
from tunesmith.core.unpadded_attention import WINDOW
from tunesmith.train.fused.copies import Memory
from tunesmith.train.fused.products import Linear, Product
from tunesmith.train.fused.root_norm import RootNorm, is_root_norm
from tunesmith.train.fused.tape import Gradients, Tape
from tunesmith.train.fused.turn import Turn, heads_of, wide

LINEARS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "back": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORMS = {"first": "input_layernorm", "second": "post_attention_layernorm"}
HEAD_NORMS = {"query": "self_attn.q_norm", "key": "self_attn.k_norm"}
ACTIVATION = "mlp.act_fn"
CONTAINERS = ("", "self_attn", "mlp")
FIRST = "query key value"


class Llama:
    """A block of the family, recognised by its modules."""

    def __init__(self, block: nn.Module, heads: Heads) -> None:
        self.block, self.heads, self.turned = block, heads, heads.size
        modules = dict(block.named_modules())
        self.norms = {name: path for name, path in {**NORMS, **HEAD_NORMS}.items() if path in modules}
        self.width = len(cast(Tensor, block.get_submodule(NORMS["first"]).weight))
        self.memory = Memory()

    @classmethod
    def of(cls, block: nn.Module) -> Llama | str | None:
        """The block if it is one of the family; None if not; a sentence if it is, but can't run as one function."""
        modules = dict(block.named_modules(remove_duplicate=False))
        attention: Any = modules.get("self_attn")
        size = getattr(attention, "head_dim", None)
        there = {*LINEARS.values(), *NORMS.values(), ACTIVATION} <= modules.keys()
        if not there or not isinstance(size, int) or not hasattr(attention, "attention_dropout"):
            return None
        own = {path: modules[path] for path in (*NORMS.values(), *HEAD_NORMS.values()) if path in modules}
        known = (*LINEARS.values(), *own, ACTIVATION)
        parameters = {id(p) for path in known for p in modules[path].parameters()}
        if any(id(parameter) not in parameters for parameter in block.parameters()):
            return "It has weights beside those of the family."
        if any(path not in CONTAINERS and not f"{path}.".startswith(tuple(f"{k}." for k in known)) for path in modules):
            return "It has modules beside those of the family."
        if any(not is_root_norm(norm, size if path in HEAD_NORMS.values() else None) for path, norm in own.items()):
            return "Its norms are no plain norms of the root mean square."
        points, activation = torch.linspace(-4, 4, 17), modules[ACTIVATION]
        if not torch.allclose(activation(points), silu(points), atol=1e-6):
            return f"Its activation {type(activation).__name__} is not SiLU."
        queries, keys = (len(cast(Tensor, modules[LINEARS[name]].weight)) // size for name in ("query", "key"))
        return cls(block, Heads(queries, keys, size, float(getattr(attention, "scaling", size**-0.5))))

    def work(self, x: Tensor, layout: Layout, one: bool, positions: Sequence[Tensor] = ()) -> _Work | str:
        """What a call on x [1, total, hidden] needs, or why the block's own forward must run.

        one: whether only the tokens of `layout.read` are wanted. positions: cosines and sines [1, total, size].
        """
        linears: dict[str, Linear] = {}
        for name, path in LINEARS.items():
            linear = Linear.of(self.block.get_submodule(path))
            if isinstance(linear, str):
                return linear
            linears[name] = linear
        attention: Any = self.block.get_submodule("self_attn")
        dropout = float(attention.attention_dropout) if attention.training else 0.0
        mixed = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if mixed else x.dtype
        if not mixed and any(t.dtype != dtype for linear in linears.values() for t in linear.tensors):
            return "its weights are of another type than what comes in"
        if WINDOW in layout.kept:
            return "its tokens see a window of those before them"
        if [tuple(turn.shape) for turn in positions] != [(*x.shape[:2], self.turned)] * 2:
            return "its positions are not given by a cosine and a sine for each number of a head"
        if dropout >= 1:
            return "its dropout drops everything"
        if layout.chunks[-1].time > LONG and not (one or dropout):
            return f"texts of more than {LONG} tokens take a kernel that keeps no scores"
        sums = torch.float32 if mixed else dtype
        products = self._products(linears, dropout, dtype, one)
        turn = Turn(*(part[0, :, None].to(wide(sums)) for part in positions))
        return _Work(layout, self._scaled, one, (dtype, sums), products, self._norms(dtype), turn, dropout)

    @property
    def _scaled(self) -> Heads:
        """The heads, whose queries are scaled by the copy of their weight or of their norm's."""
        return replace(self.heads, scale=1.0)

    def _norms(self, dtype: torch.dtype) -> dict[str, RootNorm]:
        factors = {"query": self.heads.scale}
        return {
            name: RootNorm.of(self.block.get_submodule(path), dtype, factors.get(name, 1.0))
            for name, path in self.norms.items()
        }

    def _products(
        self, linears: Mapping[str, Linear], dropout: float, dtype: torch.dtype, one: bool
    ) -> dict[str, Product]:
        factors = {"value": scale_of(dropout)} if dropout else {}
        if "query" not in self.norms:
            factors["query"] = self.heads.scale
        first = [("query",), ("key", "value")] if one else [("query", "key", "value")]
        groups = [*first, ("back",), ("gate",), ("up",), ("down",)]
        return {
            (name := " ".join(group)): Product.of(
                [linears[one] for one in group], [factors.get(one, 1.0) for one in group], dtype, self.memory, name
            )
            for group in groups
        }


@dataclass(frozen=True)
class _Work:
    """One call. types: of products, and of sums. dropout: the rate after the scores."""

    layout: Layout
    heads: Heads
    one: bool
    types: tuple[torch.dtype, torch.dtype]
    products: Mapping[str, Product]
    norms: Mapping[str, RootNorm]
    turn: Turn
    dropout: float

    @cached_property
    def trained(self) -> list[Tensor]:
        linears = [linear for product in self.products.values() for linear in product.linears]
        tensors = [tensor for linear in linears for tensor in linear.tensors]
        tensors += [norm.weight for norm in self.norms.values()]
        return list({id(tensor): tensor for tensor in tensors if tensor.requires_grad}.values())

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        sums = x[0].to(self.types[1])  # [total, hidden]
        out, sums = self._attended(sums, tape)
        sums = sums + out  # [total or sequences, hidden]
        normed = self.norms["second"].forward(sums, tape)
        gate, up = (self.products[name].forward(normed, tape) for name in ("gate", "up"))
        sums = sums + self.products["down"].forward(silu(gate).mul_(up), tape, keep=False)
        tape.push(gate, up)
        return self._in_batch_order(sums)[None]

    def backward(self, grad: Tensor, tape: Tape, gradients: Gradients, wanted: bool) -> Tensor | None:
        grad = grad[0] if not self.one else grad[0].index_select(0, self.layout.order)
        dsums = grad.to(self.types[1])
        gate, up = tape.take(2)
        down, opened = self.products["down"], silu(gate)
        inner = opened * up if down.reads_input else None  # once more: kept, it would be as large as each of the two
        dinner = down.backward(dsums.to(self.types[0]), tape, gradients, True, inner)
        dgate, dup = _gate_backward(cast(Tensor, dinner), gate, up, opened)
        dnormed = cast(Tensor, self.products["up"].backward(dup, tape, gradients, True))
        dnormed.add_(cast(Tensor, self.products["gate"].backward(dgate, tape, gradients, True)))
        dsums = self.norms["second"].backward(dnormed, dsums, tape, gradients)
        below = wanted or any(tensor.requires_grad for tensor in self._first_tensors)
        dout = self.products["back"].backward(dsums.to(self.types[0]), tape, gradients, below)
        if dout is None:
            return None
        dfirst = self._attended_backward(dout, tape, gradients, wanted)
        if dfirst is None:
            return None
        return self.norms["first"].backward(dfirst, self._at_their_places(dsums), tape, gradients)[None]

    @property
    def _first_tensors(self) -> list[Tensor]:
        """The parameters that queries, keys and values come from."""
        first = [product for name, product in self.products.items() if name in ("query", "key value", FIRST)]
        tensors = [tensor for product in first for linear in product.linears for tensor in linear.tensors]
        return tensors + [norm.weight for name, norm in self.norms.items() if name != "second"]

    def _attended(self, sums: Tensor, tape: Tape) -> tuple[Tensor, Tensor]:
        """What attention adds to the sums, and the sums that it is added to."""
        masks = Masks(self.dropout, self.types[0], sums.device) if self.dropout else None
        normed = self.norms["first"].forward(sums, tape)
        if self.one:
            tokens = read_tokens(self.layout)
            sums = sums.index_select(0, tokens)
            queries = self.products["query"].forward(normed.index_select(0, tokens), tape)
            row = self.products["key value"].forward(normed, tape)
            self._place_(queries, ("query",), self.turn.of(tokens), tape)
            self._place_(row, ("key",), self.turn, tape)
            out, kept = attend(row, self.layout, self.heads, masks, queries)
        else:
            row = self.products[FIRST].forward(normed, tape)
            self._place_(row, ("query", "key"), self.turn, tape)
            out, kept = attend(row, self.layout, self.heads, masks)
        tape.push(*kept)
        return self.products["back"].forward(out, tape), sums

    def _attended_backward(self, dout: Tensor, tape: Tape, gradients: Gradients, wanted: bool) -> Tensor | None:
        """The gradient of the first norm's result, if it is wanted."""
        wanted = wanted or self.norms["first"].weight.requires_grad
        kept = tape.take(KEPT * len(self.layout.chunks))
        drow, dqueries = attend_backward(dout, kept, self.layout, self.heads, self.one)
        if dqueries is None:
            self._place_backward_(drow, ("query", "key"), self.turn, tape, gradients)
            return self.products[FIRST].backward(drow, tape, gradients, wanted)
        tokens = read_tokens(self.layout)
        self._place_backward_(drow, ("key",), self.turn, tape, gradients)
        self._place_backward_(dqueries, ("query",), self.turn.of(tokens), tape, gradients)
        dnormed = self.products["key value"].backward(drow, tape, gradients, wanted)
        dread = self.products["query"].backward(dqueries, tape, gradients, wanted)
        if dnormed is None or dread is None:
            return None
        return dnormed.to(self.types[1]).index_add_(0, tokens, dread.to(self.types[1]))

    def _place_(self, row: Tensor, names: Sequence[str], turn: Turn, tape: Tape) -> None:
        """Norm and turn the first heads of each token, in place; `names` says which heads they are."""
        start = 0
        for name in names:
            if name in self.norms:
                heads = heads_of(row, start, self._count(name), self.heads.size)
                heads.copy_(self.norms[name].forward(heads.clone(), tape))
            start += self._count(name)
        turn.forward_(row, start)

    def _place_backward_(
        self, grad: Tensor, names: Sequence[str], turn: Turn, tape: Tape, gradients: Gradients
    ) -> None:
        start = sum(self._count(name) for name in names)
        turn.backward_(grad, start)
        for name in reversed(names):
            start -= self._count(name)
            if name in self.norms:
                heads = heads_of(grad, start, self._count(name), self.heads.size)
                heads.copy_(self.norms[name].backward(heads, None, tape, gradients))

    def _count(self, name: str) -> int:
        return self.heads.queries if name == "query" else self.heads.keys

    def _at_their_places(self, dsums: Tensor) -> Tensor:
        """The gradient of all tokens' sums: [total, hidden]."""
        if not self.one:
            return dsums
        whole = dsums.new_zeros(self.layout.total, dsums.shape[1])
        return whole.index_copy_(0, read_tokens(self.layout), dsums)

    def _in_batch_order(self, sums: Tensor) -> Tensor:
        if not self.one:
            return sums
        return sums.new_zeros(self.layout.shape[0], sums.shape[1]).index_copy_(0, self.layout.order, sums)


def _gate_backward(dinner: Tensor, gate: Tensor, up: Tensor, opened: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of gate and up, from that of SiLU(gate) * up [tokens, inner], and SiLU(gate), both overwritten."""
    dup = opened.mul_(dinner)
    return torch.ops.aten.silu_backward(dinner.mul_(up), gate), dup
