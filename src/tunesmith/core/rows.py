"""A split as the code sees it: rows by number, read in blocks of columns, never all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith.core.column import Row

BLOCK = 2048


class Rows(Protocol):
    """A split: its length, and several rows at once as columns (as `datasets.Dataset` gives them)."""

    def __len__(self) -> int:
        """How many rows."""

    def __getitem__(self, places: slice | list[int]) -> Mapping[str, Sequence[Any]]:
        """Rows at these places, as columns."""


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
