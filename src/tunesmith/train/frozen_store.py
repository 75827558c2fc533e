"""Rows of numbers that are kept for later: in memory first, then in a temporary file, up to a budget."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from itertools import accumulate
from typing import IO

import torch
from torch import Tensor

IN_MEMORY = 0.5
"""The share of the budget that is memory; the rest is a file."""
STEP = 64 * 2**20
"""Bytes of the disk that are reserved at a time."""


class Store:
    """The states of sequences, by a key, one after the other in one long array [rows, width].

    Nothing is allocated before the first sequence, and pages are touched only where rows are written: a store costs
    what it holds. Width and type are those of what comes first; other sequences are not taken.

    kept: how many sequences it holds. full: why it takes no more; empty while it does.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.full = ""
        self._first: dict[bytes, int] = {}
        self._rows = 0
        self._memory: Tensor | None = None
        self._file: _File | None = None

    @property
    def kept(self) -> int:
        """How many sequences it holds."""
        return len(self._first)

    @property
    def size(self) -> int:
        """How many bytes their states take."""
        return 0 if self._memory is None else self._rows * _row_bytes(self._memory)

    def find(self, keys: Sequence[bytes]) -> list[int | None]:
        """The first row of each sequence; None where it is not held."""
        return [self._first.get(key) for key in keys]

    def add(self, keys: Sequence[bytes], lengths: Sequence[int], states: Tensor) -> None:
        """Take sequences, as many as there is room for: `states` [rows, width] has `lengths` rows of each."""
        if self.full:
            return
        if self._memory is None:
            self._open(states)
        memory = self._memory
        assert memory is not None
        if states.shape[1:] != memory.shape[1:] or states.dtype != memory.dtype:
            return
        ends = list(accumulate(lengths))
        room = self._room(memory, ends[-1] if ends else 0)
        count = sum(end <= room for end in ends)
        if count:
            self._write(memory, states[: ends[count - 1]].to(memory.device))
        for key, end, length in zip(keys[:count], ends, lengths, strict=False):
            self._first[key] = self._rows + end - length
        self._rows += ends[count - 1] if count else 0

    def take(self, rows: Tensor) -> Tensor:
        """These rows: [n] -> [n, width]."""
        assert self._memory is not None
        edge = len(self._memory)
        if self._file is None or int(rows.max()) < edge:
            return self._memory.index_select(0, rows)
        there = rows >= edge
        found = self._memory.new_empty(len(rows), self._memory.shape[1])
        found[~there] = self._memory.index_select(0, rows[~there])
        found[there] = self._file.rows.index_select(0, rows[there] - edge)
        return found

    def clear(self) -> None:
        """Forget everything, and give memory and file back."""
        self.full, self._first, self._rows, self._memory, self._file = "", {}, 0, None, None

    def _open(self, states: Tensor) -> None:
        rows = int(self.budget * IN_MEMORY) // _row_bytes(states)
        with torch.inference_mode(False):  # else it could not be written outside of it
            self._memory = torch.empty(rows, *states.shape[1:], dtype=states.dtype)

    def _room(self, memory: Tensor, wanted: int) -> int:
        """How many of the wanted rows there is room for, after the file has grown where it can."""
        left = self.budget // _row_bytes(memory) - self._rows
        if wanted > left:
            self.full = f"the budget of {self.budget / 2**20:,.0f} MB is used up"
        room = min(wanted, left)
        if self._rows + room <= len(memory):
            return room
        try:
            if self._file is None:
                self._file = _File(self.budget // _row_bytes(memory) - len(memory), memory)
            self._file.reserve(self._rows + room - len(memory))
        except OSError as error:
            self.full = f"the temporary folder {tempfile.gettempdir()} takes no more ({error.strerror or error})"
            return max(min(room, len(memory) - self._rows), 0)
        return room

    def _write(self, memory: Tensor, states: Tensor) -> None:
        inside = max(min(len(memory) - self._rows, len(states)), 0)
        memory[self._rows : self._rows + inside] = states[:inside]
        if inside < len(states):
            assert self._file is not None
            start = self._rows + inside - len(memory)
            self._file.rows[start : start + len(states) - inside] = states[inside:]


class _File:
    """An array [rows, width] mapped from a temporary file, which is gone as soon as this object is."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self._size = rows * _row_bytes(like)
        self._reserved = 0
        self._row = _row_bytes(like)
        self._stream: IO[bytes] = tempfile.TemporaryFile(prefix="tunesmith-")  # noqa: SIM115
        weakref.finalize(self, self._stream.close)
        self._stream.truncate(self._size)
        mapping = mmap.mmap(self._stream.fileno(), self._size)
        with torch.inference_mode(False):
            self.rows = torch.frombuffer(mapping, dtype=like.dtype).view(rows, *like.shape[1:])

    def reserve(self, rows: int) -> None:
        """Make sure that so many rows can be written; raises OSError where the disk is full.

        Without this, a write into the mapping would end the process with a bus error.
        """
        while self._reserved < rows * self._row:
            step = min(STEP, self._size - self._reserved)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._stream.fileno(), self._reserved, step)
            else:
                self._stream.seek(self._reserved)
                self._stream.write(bytes(step))
                self._stream.flush()
            self._reserved += step


def _row_bytes(array: Tensor) -> int:
    return max(array.shape[1:].numel() * array.element_size(), 1)
