"""For one batch as one row of tokens: what of each sequence is kept, what is to be computed, and both put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.core.layout import Layout
from tunesmith.core.unpadded_attention import BIASED, WINDOW
from tunesmith.train.frozen_store import Store

TEXT = ("input_ids", "token_type_ids", "position_ids")
"""What the lower part of a backbone computes from, an entry a token, besides the mask."""
SILENT = ("labels", "return_dict", "is_causal")
"""What does not change the blocks' states. Any other argument that is not False does, for all we know."""


def keys(inputs: Mapping[str, Any], salt: bytes) -> list[bytes] | str:
    """128 bits for each sequence of a call: equal where its real tokens are the same, at the same places, and `salt`
    is. Or why the call has none.
    """
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    given = {name: inputs[name] for name in TEXT if name in inputs}
    if not isinstance(ids, Tensor) or any(
        value.shape not in (ids.shape, (1, *ids.shape[1:])) for value in given.values()
    ):
        return "its input is no batch of token ids"
    odd = [
        name for name, value in inputs.items() if name not in (*TEXT, *SILENT, "attention_mask") and value is not False
    ]
    if odd:
        return f"its input has '{odd[0]}'"
    if mask is not None and mask.shape != ids.shape:
        return "its mask has more than one entry a token"
    table = torch.stack([value.expand_as(ids) for value in given.values()], dim=-1).int().cpu().numpy()
    ends = np.full(len(table), table.shape[1])
    if mask is not None:
        there = mask.bool().cpu().numpy()
        table = np.where(there[..., None], table, -1)  # [sequences, time, inputs]
        ends = table.shape[1] - there[:, ::-1].argmax(axis=1)
    stirred = blake2b(salt + " ".join(given).encode(), digest_size=16).digest()
    return [
        blake2b(row[:end].tobytes(), digest_size=16, salt=stirred).digest()
        for row, end in zip(table, ends.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Plan:
    """A batch, sequence by sequence in the order of its result.

    reading: whether the result is the one token a sequence that is read, [1, sequences, hidden] in the order of the
    batch; else it is the whole row, [1, total, hidden]. keys and starts: of each sequence, in the order of the result;
    a start is the first of its rows in the store, None where it is to be computed.
    """

    layout: Layout
    reading: bool
    keys: list[bytes]
    starts: list[int | None]

    @classmethod
    def of(cls, layout: Layout, reading: bool, keys: Sequence[bytes], starts: Sequence[int | None]) -> Plan:
        """The plan, from keys and starts in the order of the batch."""
        numbers = range(layout.shape[0]) if reading else layout.order.tolist()
        return cls(layout, reading, [keys[number] for number in numbers], [starts[number] for number in numbers])

    @cached_property
    def lengths(self) -> np.ndarray:
        """How many rows of the result each sequence has."""
        return np.ones(len(self.keys), dtype=np.int64) if self.reading else np.array(self.layout.lengths)

    @cached_property
    def known(self) -> np.ndarray:
        """Which sequences are kept: [sequences]."""
        return np.array([start is not None for start in self.starts])

    @cached_property
    def new(self) -> Tensor:
        """Which sequences are to be computed, in the order of the layout: [sequences]."""
        order = self.layout.order
        new = torch.from_numpy(~self.known).to(order.device)
        return new[order] if self.reading else new

    @cached_property
    def rows(self) -> Tensor:
        """Where the tokens that are to be computed stand in the whole row, filled up: [part's total]."""
        new = self.new
        rows = new.repeat_interleave(torch.tensor(self.layout.lengths, device=new.device)).nonzero()[:, 0]
        return torch.cat([rows, rows[:1].expand(-len(rows) % self.layout.quantum)])

    @cached_property
    def part(self) -> Layout:
        """The layout of what is to be computed, as if its sequences were the whole batch."""
        layout, new = self.layout, self.new
        if new.all():
            return layout
        batch, time = layout.shape
        order = layout.order[new]
        there = torch.zeros(batch, dtype=torch.long, device=order.device).index_fill_(0, order, 1)
        number = there.cumsum(0) - 1  # of each sequence that is computed, among these: [batch]
        lengths = tuple(length for length, one in zip(layout.lengths, new.tolist(), strict=True) if one)
        rows = self.rows[: sum(lengths)]
        places = layout.places[rows]
        read = None
        if self.reading and layout.read is not None:
            read = torch.searchsorted(rows, layout.read[there.bool()])
        return replace(
            layout,
            shape=(len(order), time),
            order=number[order],
            lengths=lengths,
            places=number[places // time] * time + places % time,
            read=read,
            kept={name: layout.kept[name] for name in (WINDOW, BIASED) if name in layout.kept},
        )

    def arguments(
        self, given: tuple[Any, ...], by_name: Mapping[str, Any], first: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A block's arguments, for the part alone; the hidden states of all blocks but the first are that already."""
        listed = tuple(one if place == 0 and not first else self._narrowed(one) for place, one in enumerate(given))
        named = {
            name: one if name == "hidden_states" and not first else self._narrowed(one) for name, one in by_name.items()
        }
        return listed, named

    def _narrowed(self, value: Any) -> Any:
        """What has an entry a token, [1, total, ...], without those that are kept."""
        if isinstance(value, Layout):
            return self.part
        if isinstance(value, tuple):
            return tuple(self._narrowed(one) for one in value)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (1, self.layout.total):
            return value.index_select(1, self.rows)
        return value

    def keep(self, output: Tensor, store: Store) -> Tensor:
        """Put what was computed for the part into the store: [1, part's total, hidden] or [1, sequences, hidden] ->
        the states of the new sequences, [rows, hidden].
        """
        states, part = output[0], self.part
        if not self.reading:
            states = states[: part.tokens]
        elif part.read is not None and len(states) != len(part.read):
            states = states.index_select(0, part.read)
        new = np.flatnonzero(~self.known)
        store.add([self.keys[number] for number in new], self.lengths[new].tolist(), states)
        return states

    def result(self, computed: Tensor | None, store: Store, device: torch.device) -> Tensor:
        """What the last frozen block gives, of what was computed and what is kept."""
        lengths, known = self.lengths, self.known
        wanted = lengths[known]
        starts = np.array([start for start in self.starts if start is not None], dtype=np.int64)
        ends = wanted.cumsum()
        rows = torch.from_numpy(np.repeat(starts - ends + wanted, wanted) + np.arange(wanted.sum()))
        beyond = 0 if self.reading else self.layout.total - self.layout.tokens
        if computed is None:
            return store.take(torch.cat([rows, rows[:1].expand(beyond)])).to(device)[None]
        there = torch.from_numpy(np.repeat(known, lengths)).to(device)
        full = computed.new_zeros(len(there) + beyond, computed.shape[1])
        full[: len(there)][there] = store.take(rows).to(device)
        full[: len(there)][~there] = computed
        return full[None]
