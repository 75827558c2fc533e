"""A split as the code sees it: rows by number, read in blocks of columns, never all at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from tunesmith.core.column import Row

BLOCK = 2048


class Rows(Protocol):
    """A split: its length, and several rows at once as columns (as `datasets.Dataset` gives them)."""

    def __len__(self) -> int:
        """How many rows."""

    def __getitem__(self, places: slice | list[int]) -> Mapping[str, Sequence[Any]]:
        """Rows at these places, as columns."""


def judging(names: Collection[str]) -> str | None:
    """The split that judges, of those that there are: test, or validation where there is no test split, or None."""
    return next((name for name in ("test", "validation") if name in names), None)


@dataclass(frozen=True)
class Bins:
    """Rows several of which make one example: a row of it has the key `members`, a list of rows."""

    rows: Rows
    bins: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.bins)

    def __getitem__(self, places: slice | list[int]) -> Mapping[str, Sequence[Any]]:
        """The bins at these places."""
        chosen = self.bins[places] if isinstance(places, slice) else [self.bins[place] for place in places]
        members = iter(take(self.rows, [number for one in chosen for number in one]))
        return {"members": [[next(members) for _ in one] for one in chosen]}


@dataclass(frozen=True)
class Joined:
    """The rows of several files, one file after another: each row has the key `file`, the name of its file."""

    parts: Sequence[Rows]
    names: Sequence[str]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, places: slice | list[int]) -> Mapping[str, Sequence[Any]]:
        """Rows at these places; what the rows of a file lack is None there."""
        wanted = np.arange(len(self))[places]
        ends = list(accumulate(map(len, self.parts)))
        owners = np.searchsorted(ends, wanted, side="right")
        found: dict[str, list[Any]] = {}
        for number in np.unique(owners).tolist():
            part = self.parts[number]
            there = np.flatnonzero(owners == number).tolist()
            columns = part[(wanted[there] - ends[number] + len(part)).tolist()]
            for name, values in {**columns, "file": [self.names[number]] * len(there)}.items():
                column = found.setdefault(name, [None] * len(wanted))
                for place, value in zip(there, values, strict=True):
                    column[place] = value
        return found


def line_of(row: Row) -> str:
    """Where a user finds a row: `7`, or `7 of b.csv` where a split has several files; empty where nothing is known.

    Of examples that were packed into one row it is the first one's line.
    """
    first = row["members"][0] if "members" in row else row
    if "line" not in first:
        return ""
    return f"{first['line']} of {row['file']}" if "file" in row else str(first["line"])


@dataclass(frozen=True)
class Chosen:
    """The rows of a split at these places, in this order."""

    rows: Rows
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, places: slice | list[int]) -> Mapping[str, Sequence[Any]]:
        """The chosen rows at these places."""
        chosen = self.places[places] if isinstance(places, slice) else [self.places[place] for place in places]
        return self.rows[list(chosen)]


def take(rows: Rows, places: slice | list[int]) -> list[Row]:
    """Rows at these places, in this order."""
    columns = rows[places]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def blocks(rows: Rows) -> Iterator[list[Row]]:
    """All rows, in order, a block at a time."""
    for start in range(0, len(rows), BLOCK):
        yield take(rows, slice(start, start + BLOCK))


def each(rows: Rows) -> Iterator[Row]:
    """All rows, in order."""
    for block in blocks(rows):
        yield from block
