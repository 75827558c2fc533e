"""Attention over the real tokens of a batch that run as one row (`core/layout.py`), forward and backward.

With queries Q, keys K and values V of one sequence and one head, s the scale, D dropout's mask (1 where kept) and C 0
where a query may see a key and -1e30 elsewhere:

    P = softmax(s Q K^T + C)        O = (D * P) V

Neighbouring sequences of like length are taken together in chunks, padded to the chunk's longest, so that a batch
takes a few products. Scores and softmax are float32, products are in the type of the row. The backward pass is by
hand and keeps Q, K, V, P and D of each chunk: dV = (D * P)^T dO, dP = D * (dO V^T), dS = P * (dP - sum(dP * P)),
dQ = s dS K, dK = s dS^T Q.

Where there are fewer heads of keys than of queries (grouped queries, Ainslie et al. 2023), the queries that share a
head of keys stand one after the other, as if they were more queries of that head: nothing is repeated. Numbers go from
the row to the chunks and back head by head (`by_head.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tunesmith.core.by_head import by_head, by_token, clear_, parts_of
from tunesmith.core.dropout import Masks, mask_, masked, take
from tunesmith.core.layout import Chunk, Layout

LONG = 512
"""Chunks longer than this keep no scores where nothing is dropped: torch's own kernel takes them piece by piece."""
KEPT = 5
"""How many tensors a chunk keeps for the backward pass."""

PIECE = 1 << 21
"""Most scores that a processor works on at once, as far as whole sequences go: they are in float32, and wider than what
is kept of them.
"""

Kept = list[Tensor | None]


@dataclass(frozen=True)
class Heads:
    """How a token's numbers are divided: heads of queries, heads of keys (and of values), numbers a head, and the
    scale of the scores; 1 where the queries are scaled already.
    """

    queries: int
    keys: int
    size: int
    scale: float

    @property
    def group(self) -> int:
        """How many heads of queries share a head of keys."""
        return self.queries // self.keys

    def counts(self, one: bool) -> tuple[int, ...]:
        """Heads of queries, keys and values in a row; of one whose queries stand apart, of keys and values."""
        return (self.keys, self.keys) if one else (self.queries, self.keys, self.keys)


def attend(
    row: Tensor, layout: Layout, heads: Heads, masks: Masks | None = None, read: Tensor | None = None
) -> tuple[Tensor, Kept]:
    """Attention of every token, or of one a sequence; and what the backward pass needs.

    row [total, (queries + 2 keys) * size]: each token's queries, keys and values. read [sequences, queries * size]: the
    queries of one token a sequence, in the layout's sorted order (those of the tokens `read_tokens(layout)`); the row
    then holds keys and values alone. Returns [total, queries * size], zero where the row is filled up, or
    [sequences, queries * size] in the sorted order. What is kept is not divided by dropout's probability: whoever gives
    masks multiplies by their scale, in the result or (as cheap as nothing) in the weights that give the values.
    """
    tokens = row.shape[0] if read is None else read.shape[0]
    out = row.new_empty(tokens, heads.queries * heads.size)
    kept: Kept = []
    for chunk in layout.chunks:
        parts = by_head(row[chunk.start : chunk.stop], layout, chunk, heads.counts(one=read is not None), heads.size)
        if read is not None:
            parts = [read[chunk.first : chunk.last], *parts]
        q, k, v = (part.view((chunk.last - chunk.first) * heads.keys, -1, heads.size) for part in parts)
        p = _probabilities(q, k, layout, chunk, heads)
        mask = take(masks, p.shape)
        o = torch.bmm(masked(p, mask), v)  # [sequences * keys, group * time, size]
        kept += [q, k, v, p, mask]
        if read is not None:
            out[chunk.first : chunk.last] = o.view(-1, out.shape[1])
        else:
            by_token(o.view(-1, heads.size), layout, chunk, (heads.queries,), out[chunk.start : chunk.stop])
    if read is None:
        out[layout.tokens :] = 0
    return out, kept


def attend_backward(
    grad: Tensor, kept: Sequence[Tensor | None], layout: Layout, heads: Heads, one: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The gradients of `row` and of `read` (None unless `one`: whether `attend` was given it).

    grad: that of `attend`'s result, of its shape. A gradient where the row is filled up is left out.
    """
    counts = heads.counts(one)
    row = grad.new_empty(layout.total, sum(counts) * heads.size)
    read = grad.new_empty(grad.shape) if one else None
    for number, chunk in enumerate(layout.chunks):
        mine = kept[KEPT * number : KEPT * (number + 1)]
        shape = ((chunk.last - chunk.first) * heads.keys, -1, heads.size)
        table = grad.new_empty((chunk.last - chunk.first) * chunk.time * sum(counts), heads.size)
        places = parts_of(table, chunk, counts)
        if read is None:
            (g,) = by_head(grad[chunk.start : chunk.stop], layout, chunk, (heads.queries,), heads.size)
            clear_(g, layout, chunk)
        else:
            g = grad[chunk.first : chunk.last]
            places = [read[chunk.first : chunk.last], *places]
        _chunk_backward(g.view(shape), mine, heads.scale, chunk, [place.view(shape) for place in places])
        by_token(table, layout, chunk, counts, row[chunk.start : chunk.stop])
    row[layout.tokens :] = 0
    return row, read


def read_tokens(layout: Layout) -> Tensor:
    """The tokens of the row that are read after the last block, in the layout's sorted order: [sequences]."""
    assert layout.read is not None
    return layout.read.index_select(0, layout.order)


def attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float = 0.0) -> Tensor:
    """Attention for a model's own blocks, differentiable.

    query [1, queries, total, size], key and value [1, keys, total, size], as transformers gives them; returns
    [1, total, queries, size].
    """
    heads = Heads(query.shape[1], key.shape[1], query.shape[3], scale)
    if dropout == 0 and layout.chunks[-1].time > LONG:
        return _in_pieces(query, key, value, layout, scale)
    # Transformers' tensors are views of [1, total, heads, size]: laid side by side they are what one product gives.
    row = torch.cat([part.transpose(1, 2).flatten(2) for part in (query, key, value)], dim=2)[0]
    device = row.device.type
    if torch.is_autocast_enabled(device):  # rotary positions may leave float32
        row = row.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        out = cast(Tensor, _Attention.apply(row, layout, heads, dropout))  # type: ignore[no-untyped-call]
    return out.view(1, -1, heads.queries, heads.size)


class _Attention(torch.autograd.Function):
    """`attend` of a whole row, with dropout's scale in the result."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, layout: Layout, heads: Heads, dropout: float) -> Tensor:
        masks = Masks(dropout, row.dtype, row.device) if dropout else None
        out, kept = attend(row, layout, heads, masks)
        ctx.save_for_backward(*kept)
        ctx.layout, ctx.heads, ctx.scale = layout, heads, masks.scale if masks else 1.0
        return out.mul_(ctx.scale) if masks else out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        grad = grad if ctx.scale == 1 else grad * ctx.scale
        return attend_backward(grad.contiguous(), ctx.saved_tensors, ctx.layout, ctx.heads)[0], None, None, None


def _in_pieces(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float) -> Tensor:
    """`attention` by torch's own kernel, chunk by chunk."""
    outs = []
    grouped = query.shape[1] != key.shape[1]
    for chunk in layout.chunks:
        parts = [padded(x[0].transpose(0, 1)[chunk.start : chunk.stop], chunk) for x in (query, key, value)]
        q, k, v = (x.view(-1, chunk.time, *x.shape[1:]).transpose(1, 2) for x in parts)
        closed = None if layout.causal or chunk.closed is None else chunk.closed.to(q.dtype)
        o = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, closed, is_causal=layout.causal, scale=scale, enable_gqa=grouped
        )
        o = o.transpose(1, 2).flatten(0, 1)  # [sequences * time, heads, size]
        outs.append(o if chunk.into is None else o.index_select(0, chunk.into))
    fill = outs[0].new_zeros(layout.total - layout.tokens, *outs[0].shape[1:])
    return torch.cat([*outs, fill])[None]


def _probabilities(q: Tensor, k: Tensor, layout: Layout, chunk: Chunk, heads: Heads) -> Tensor:
    """P of one chunk, in the type of the queries: [sequences * keys, group * time, time]."""
    p = q.new_empty(*q.shape[:2], chunk.time)
    queries = q.shape[1] // heads.group
    shut = closed(layout, chunk, one=queries == 1)
    for piece in _pieces(p, chunk):
        scores = torch.bmm(q[piece], k[piece].transpose(1, 2)).float()
        if heads.scale != 1:
            scores.mul_(heads.scale)
        if shut is not None:
            own = shut if len(shut) == 1 else shut[piece.start // heads.keys : piece.stop // heads.keys]
            scores.view(-1, heads.queries, queries, chunk.time).add_(own)
        p[piece] = torch.softmax(scores, dim=-1, out=scores)
    return p


def _pieces(p: Tensor, chunk: Chunk) -> Iterator[slice]:
    """Whole sequences of P [sequences * keys, rows, time]; as many at once as PIECE allows, on a GPU all."""
    sequences = chunk.last - chunk.first
    heads = len(p) // sequences
    fit = PIECE // (p.numel() // sequences) if p.device.type == "cpu" else sequences
    size = heads * (1 << max(fit, 1).bit_length() - 1)  # a power of two: the same shapes come again
    return (slice(start, min(start + size, len(p))) for start in range(0, len(p), size))


def closed(layout: Layout, chunk: Chunk, one: bool) -> Tensor | None:
    """C of one chunk, [sequences or 1, 1, queries or 1, time]; None where every query sees every key."""
    if not layout.causal:
        return chunk.closed
    # Tokens stand before what fills a sequence up: whoever sees nothing later sees none of that either.
    key = torch.arange(chunk.time, device=layout.places.device)
    if not one or chunk.time == 1:
        later = key[None, :] > key[:, None]
        return torch.zeros_like(later, dtype=torch.float32).masked_fill_(later, -1e30)[None, None]
    position = read_tokens(layout)[chunk.first : chunk.last] - layout.starts[chunk.first : chunk.last]
    later = key > position[:, None, None, None]
    return torch.zeros_like(later, dtype=torch.float32).masked_fill_(later, -1e30)


def _chunk_backward(
    grad: Tensor, kept: Sequence[Tensor | None], scale: float, chunk: Chunk, places: Sequence[Tensor]
) -> None:
    """Gradients of Q, K and V of one chunk, each [sequences * keys, tokens, size], into `places`."""
    for piece in _pieces(cast(Tensor, kept[3]), chunk):
        q, k, v, p, mask = (cast(Tensor, one if one is None else one[piece]) for one in kept)
        dq, dk, dv = (place[piece] for place in places)
        torch.bmm(masked(p, mask).transpose(1, 2), grad[piece], out=dv)
        dp = mask_(torch.bmm(grad[piece], v.transpose(1, 2)), mask).float()
        # In float32: torch's own for shorter types is many times slower where `time` is no multiple of 32.
        ds = torch.ops.aten._softmax_backward_data.out(dp, p.float(), -1, torch.float32, grad_input=dp)
        ds = (ds if scale == 1 else ds.mul_(scale)).to(p.dtype)
        torch.bmm(ds, k, out=dq)
        torch.bmm(ds.transpose(1, 2), q, out=dk)


def padded(x: Tensor, chunk: Chunk) -> Tensor:
    """A chunk's tokens [tokens, ...] -> [sequences * time, ...], with any token where there is none."""
    return x if chunk.out is None else x.index_select(0, chunk.out)


def unpad(x: Tensor, chunk: Chunk, out: Tensor) -> None:
    """A chunk's tokens out of [sequences * time, numbers], into `out` [tokens, numbers]."""
    if chunk.into is None:
        out.copy_(x)
    else:
        torch.index_select(x, 0, chunk.into, out=out)
