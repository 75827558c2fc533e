"""A row's numbers head by head: which line of the row stands where in a chunk of attention, and the other way round.

A row [tokens, heads * size] is a table of tokens * heads lines of `size` numbers each. A chunk in which attention
multiplies is one too: for each of its parts (queries, keys, values) sequences * count * time lines, `count` heads a
part. From one to the other is one look-up of lines. Their numbers depend on the lengths alone, so that all blocks of a
pass, forward and backward, share them: `Layout.kept`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor

from tunesmith.core.dropout import mask_
from tunesmith.core.layout import Chunk, Layout

Counts = tuple[int, ...]
"""Heads of each part."""


def by_head(row: Tensor, layout: Layout, chunk: Chunk, counts: Counts, size: int) -> list[Tensor]:
    """A chunk's tokens [tokens, sum(counts) * size] -> its parts, each [sequences * count * time, size]. Where there is
    no token, there are numbers of any.
    """
    lines = _known(layout, ("by head", chunk.first, counts), lambda: _taken(layout, chunk, counts))
    return parts_of(row.reshape(-1, size).index_select(0, lines), chunk, counts)


def clear_(part: Tensor, layout: Layout, chunk: Chunk) -> Tensor:
    """One part [sequences * count * time, size], with zeros where there is no token, in place."""
    if chunk.closed is None:
        return part
    dtype = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[part.element_size()]
    there = _known(layout, ("there", chunk.first, dtype), lambda: _there(chunk).to(dtype).neg_())
    mask_(part.view(chunk.last - chunk.first, -1, chunk.time, part.shape[1]), there)
    return part


def by_token(table: Tensor, layout: Layout, chunk: Chunk, counts: Counts, out: Tensor) -> None:
    """The way back: the parts, one after the other in one table [lines, size], into `out` [tokens, sum(counts) * size],
    which has no gaps.
    """
    lines = _known(layout, ("by token", chunk.first, counts), lambda: _given(layout, chunk, counts))
    torch.index_select(table, 0, lines, out=out.view(-1, table.shape[1]))


def parts_of(table: Tensor, chunk: Chunk, counts: Counts) -> list[Tensor]:
    """The parts of a table [lines, size] in which they stand one after the other."""
    return list(table.split([(chunk.last - chunk.first) * chunk.time * count for count in counts]))


def _known(layout: Layout, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
    if key not in layout.kept:
        layout.kept[key] = make()
    return cast(Tensor, layout.kept[key])


def _taken(layout: Layout, chunk: Chunk, counts: Counts) -> Tensor:
    """The line of the row for each line of the table: token * heads + head, ordered by part, sequence, head, time."""
    width, sequences = sum(counts), chunk.last - chunk.first
    token = _whole(layout, chunk) if chunk.out is None else chunk.out
    token = (token.to(torch.int32) * width).view(sequences, 1, chunk.time)
    heads = torch.arange(width, dtype=torch.int32, device=token.device).view(1, width, 1)
    return torch.cat([(token + own).flatten() for own in heads.split(counts, dim=1)])


def _given(layout: Layout, chunk: Chunk, counts: Counts) -> Tensor:
    """The line of the table for each line of the row, ordered by token and head."""
    place = (_whole(layout, chunk) if chunk.into is None else chunk.into).to(torch.int32)[:, None]
    before = place // chunk.time * chunk.time  # the lines of one head of all sequences before
    starts = accumulate((chunk.last - chunk.first) * chunk.time * count for count in (0, *counts))
    found: Sequence[Tensor] = [
        place + before * (count - 1) + _steps(chunk.time, count, place) + start
        for count, start in zip(counts, starts, strict=False)
    ]
    return torch.cat([*found], dim=1).flatten()


def _steps(time: int, count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=like.dtype, device=like.device).mul_(time)


def _whole(layout: Layout, chunk: Chunk) -> Tensor:
    """The tokens of a chunk that is full."""
    return torch.arange(chunk.stop - chunk.start, device=layout.places.device)


def _there(chunk: Chunk) -> Tensor:
    """Where a chunk has tokens: [sequences, 1, time, 1]."""
    assert chunk.closed is not None
    return (chunk.closed == 0).transpose(2, 3)
