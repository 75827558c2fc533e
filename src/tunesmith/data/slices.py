"""Some rows of a table, together with what is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.core.column import Column
from tunesmith.core.mapped import Mapped
from tunesmith.data import cache
from tunesmith.data import scan as scans
from tunesmith.data.read import Table
from tunesmith.data.scan import Scan, batches, contents, scan
from tunesmith.data.settings import DataSettings, share
from tunesmith.data.split import split

WORTH_KEEPING = 2_000
"""Rows from which what was found out about them is kept on the disk: fewer are faster looked through again."""


@dataclass(frozen=True)
class Slice:
    """The rows of `table` at `positions`; `scan` and `positions` go in step."""

    table: Table
    scan: Scan
    positions: NDArray[np.int64]

    @property
    def file(self) -> str:
        """The file, or the files, as a message names them."""
        return ", ".join(self.scan.files) or str(self.table.path)

    def take(self, kept: NDArray[np.int64]) -> Slice:
        """The rows at `kept`, counted within this slice."""
        return Slice(self.table, self.scan.take(kept), self.positions[kept])

    def texts(self, roles: Sequence[str], most: int) -> Iterator[list[str]]:
        """The texts of the first `most` rows, in batches; each row's roles are joined."""
        wanted = self.positions[:most]
        start = 0
        # Whole batches of the table, and rows taken from them: much faster than reading single rows.
        for batch in batches(self.table.contents):
            first, last = np.searchsorted(wanted, [start, start + len(batch)])
            if first == len(wanted):
                return
            yield contents(batch.take(wanted[first:last] - start), roles)
            start += len(batch)

    def rows(self) -> Mapped:
        """The rows themselves, in the order of the file."""
        if len(self.positions) == len(self.table.rows):
            return self.table.rows
        return self.table.rows.select(self.positions)


def whole(tables: Mapping[str, Table], columns: Sequence[Column], *, seed: int) -> dict[str, Slice]:
    """Every table as a slice that holds all of it."""
    return {
        name: Slice(table, _scanned(table, columns, seed=seed), np.arange(len(table.rows)))
        for name, table in tables.items()
    }


def _scanned(table: Table, columns: Sequence[Column], *, seed: int) -> Scan:
    def scanned() -> Scan:
        return scan(table.contents, columns, seed=seed)

    if len(table.rows) < WORTH_KEEPING:
        return scanned()
    name = cache.name(table.sha256, columns, table.columns)
    return Scan.of(cache.arrays(lambda: scanned().arrays(), scans.__file__, name, seed))


def divide(files: Mapping[str, Slice], settings: DataSettings) -> dict[str, Slice]:
    """The splits: files of their own as they are, shares taken off the training file."""
    train = files["train"]
    parts = split(train.scan, validation=share(settings.validation), test=share(settings.test))
    found: dict[str, Slice] = {name: train.take(positions) for name, positions in parts.items()}
    found |= {name: part for name, part in files.items() if name != "train"}
    return {name: found[name] for name in ("train", "validation", "test") if name in found}
