"""Where the real tokens of a padded batch stand when they run as one row, without padding.

Sequences are sorted by length, so that those of like length are neighbours: attention takes them in chunks, each padded
to its own longest. The row is filled up to a round length with copies of its first token, whose results are thrown
away: the libraries below keep what they prepare for a shape, which takes time and memory, and meet the same shapes
again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

QUANTUM = 32
"""A row is as long as a multiple of this; of twice as much from COARSE tokens on, of four times as much from twice
COARSE tokens on.
"""
COARSE = 512
STEP, LEAST = 8, 16
"""A chunk is as long as its longest sequence, rounded up to a multiple of STEP, beyond 16 STEP of twice as much, and so
forth; and at least LEAST: the softmax of a shorter or an odd row costs more than that of a longer even one.
"""
SIZES = (32, 16, 8)
"""How many sequences a chunk may hold; the cheapest of these is taken."""
FIXED, SQUARE = 400.0, 0.03
"""The cost of a chunk, and of one attention score, in the same unit: what makes one large chunk cheaper than two."""


@dataclass(frozen=True)
class Chunk:
    """Neighbouring sequences that attention takes together, padded to `time`.

    first, last: their numbers in the sorted order. start, stop: their tokens in the row. full: all have `time` tokens.
    into [tokens]: the place of each token in the padded chunk [sequences * time]; out [sequences * time]: the token,
    counted from `start`, at each place (any token at a padded one). closed [sequences, 1, 1, time]: 0 where there is a
    token and -1e30 elsewhere. The last three are None where the chunk is full.
    """

    first: int
    last: int
    start: int
    stop: int
    time: int
    full: bool
    into: Tensor | None = None
    out: Tensor | None = None
    closed: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """One batch's real tokens, one row.

    shape: (sequences, time) of the padded batch. order [sequences]: their numbers, the shortest first, without those
    that have no token. lengths: tokens of each, in that order. places [tokens]: where each token of the row stands in
    the padded batch, flattened. causal: whether a token sees only itself and what is before it. read [sequences]: the
    one token of each sequence, in the row, that is read after the last block, in the order of the batch; None: all.
    kept: what hooks want to keep for the rest of this forward pass.
    """

    shape: tuple[int, int]
    order: Tensor
    lengths: tuple[int, ...]
    places: Tensor
    causal: bool
    quantum: int = QUANTUM
    read: Tensor | None = None
    kept: dict[Any, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, mask: Tensor, causal: bool, quantum: int = QUANTUM) -> Layout:
        """The layout of a mask [sequences, time], true where there is a token, wherever in the sequence it stands."""
        counts = mask.sum(dim=1)
        order = torch.argsort(counts, stable=True)
        order = order[counts[order] > 0]
        sequence, position = mask[order].nonzero(as_tuple=True)
        lengths = tuple(counts[order].tolist())
        places = order[sequence] * mask.shape[1] + position
        return cls((mask.shape[0], mask.shape[1]), order, lengths, places, causal, quantum)

    @property
    def tokens(self) -> int:
        """How many real tokens there are."""
        return len(self.places)

    @property
    def total(self) -> int:
        """The length of the row with what it is filled up with."""
        coarse = 1 << min(2, (self.tokens // COARSE).bit_length())
        unit = self.quantum * coarse if self.quantum > 1 else 1
        return -(-self.tokens // unit) * unit

    @cached_property
    def taken(self) -> Tensor:
        """Where each place of the row, filled up, is taken from: [total]."""
        return torch.cat([self.places, self.places[:1].expand(self.total - self.tokens)])

    @cached_property
    def starts(self) -> Tensor:
        """Where each sequence begins in the row, in the sorted order: [sequences]."""
        lengths = torch.tensor((0, *self.lengths[:-1]), device=self.places.device)
        return lengths.cumsum(0)

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The sequences in chunks, by the cheapest of SIZES."""
        rounded = [_round(length) for length in self.lengths]
        count = len(rounded)

        def cost(size: int) -> float:
            ends = [min(first + size, count) for first in range(0, count, size)]
            return sum(FIXED + rounded[end - 1] ** 2 * size * SQUARE for end in ends)

        size = min(SIZES, key=cost)
        offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        return [self._chunk(first, min(first + size, count), offsets) for first in range(0, count, size)]

    def _chunk(self, first: int, last: int, offsets: np.ndarray) -> Chunk:
        lengths, start, stop = np.array(self.lengths[first:last]), int(offsets[first]), int(offsets[last])
        time = _round(int(lengths[-1]))
        there = np.arange(time)[None] < lengths[:, None]  # [sequences, time]
        if there.all():
            return Chunk(first, last, start, stop, time, True)
        device = self.places.device
        out = np.minimum(offsets[first:last, None] - start + np.arange(time)[None], stop - start - 1).ravel()
        closed = torch.zeros(last - first, 1, 1, time).masked_fill_(torch.from_numpy(~there)[:, None, None], -1e30)
        into = torch.from_numpy(np.nonzero(there.ravel())[0]).to(device)
        return Chunk(first, last, start, stop, time, False, into, torch.from_numpy(out).to(device), closed.to(device))


def _round(length: int) -> int:
    """The time of a chunk whose longest sequence has this length."""
    step = STEP << max(0, ((length - 1) // (8 * STEP)).bit_length() - 1)
    return max(-(-length // step) * step, LEAST)
