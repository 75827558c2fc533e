"""What splitting, checking and comparing need to know of a row, in a few dozen bytes a row."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tunesmith.core.column import Column
from tunesmith.core.mapped import Mapped, numbers_of
from tunesmith.data.columns import inputs

BATCH_ROWS = 4_000
BETWEEN = "\x1f"
Place = int | str
"""The line of a row; `7 of b.csv` where there are several files."""


def key(content: str, seed: int) -> int:
    """64 bits of SHA-256 over `seed` and `content` (in Unicode's form NFC, without space around it)."""
    plain = content.strip() if content.isascii() else unicodedata.normalize("NFC", content).strip()
    return int.from_bytes(hashlib.sha256(f"{seed}{BETWEEN}{plain}".encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Classes:
    """How often each class occurs: `counts`, `lines` (of the first row that has it) and `first` (its position), by
    name.
    """

    counts: dict[str, int]
    lines: dict[str, Place]
    first: dict[str, int]


@dataclass(frozen=True)
class Scan:
    """One number a row for each question that is asked of all rows.

    keys: equal where the texts are equal. answers: equal where the targets are equal. lines: where the row stands.
    codes, owners: the classes of all rows one after another, and for each the position of its row.
    names: the name of each code. numbers: the target number of each row, if there is such a target.
    files: the names of the files, where there are several. origins: the number of each row's file among them.
    """

    keys: NDArray[np.uint64]  # [rows]
    answers: NDArray[np.uint64]  # [rows]
    lines: NDArray[np.int64]  # [rows]
    codes: NDArray[np.int32]  # [classes of all rows]
    owners: NDArray[np.int64]  # [classes of all rows]
    names: tuple[str, ...] = ()
    numbers: NDArray[np.float64] | None = None  # [rows]
    files: tuple[str, ...] = ()
    origins: NDArray[np.int16] | None = None  # [rows]

    def __len__(self) -> int:
        return len(self.keys)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The same of one file's rows as arrays alone, to be kept in a file."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        # As bytes: numpy's own texts lose zeros at their end.
        return {**found, "names": np.frombuffer(json.dumps(self.names).encode(), dtype=np.uint8)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Scan:
        """The scan that gave these `arrays`."""
        return cls(**{**arrays, "names": tuple(json.loads(arrays["names"].tobytes()))})  # type: ignore[arg-type]

    @classmethod
    def joined(cls, scans: Sequence[Scan], files: Sequence[str]) -> Scan:
        """The scans of several files, one after another."""
        lengths = [len(one) for one in scans]
        starts = np.cumsum([0, *lengths[:-1]])
        numbering: dict[str, int] = {}
        numbers = [[numbering.setdefault(name, len(numbering)) for name in one.names] for one in scans]
        measured = [one.numbers for one in scans if one.numbers is not None]
        return cls(
            np.concatenate([one.keys for one in scans]),
            np.concatenate([one.answers for one in scans]),
            np.concatenate([one.lines for one in scans]),
            np.concatenate([np.array(new, np.int32)[one.codes] for new, one in zip(numbers, scans, strict=True)]),
            np.concatenate([one.owners + start for start, one in zip(starts, scans, strict=True)]),
            tuple(numbering),
            np.concatenate(measured) if measured else None,
            tuple(files),
            np.repeat(np.arange(len(scans), dtype=np.int16), lengths),
        )

    def place(self, position: int) -> Place:
        """Where a user finds a row."""
        line = int(self.lines[position])
        return line if self.origins is None else f"{line} of {self.files[self.origins[position]]}"

    def take(self, positions: NDArray[np.int64]) -> Scan:
        """The same of the rows at `positions` alone."""
        place = np.full(len(self), -1, dtype=np.int64)
        place[positions] = np.arange(len(positions))
        owners = place[self.owners]
        kept = owners >= 0
        return Scan(
            self.keys[positions],
            self.answers[positions],
            self.lines[positions],
            self.codes[kept],
            owners[kept],
            self.names,
            None if self.numbers is None else self.numbers[positions],
            self.files,
            None if self.origins is None else self.origins[positions],
        )

    def classes(self) -> Classes:
        """Counts and first lines of the classes that occur."""
        codes, first, counts = np.unique(self.codes, return_index=True, return_counts=True)
        names = [self.names[code] for code in codes]
        places = dict(zip(names, self.owners[first].tolist(), strict=True))
        lines = {name: self.place(place) for name, place in places.items()}
        return Classes(dict(zip(names, counts.tolist(), strict=True)), lines, places)


def scan(rows: Mapped, columns: Sequence[Column], *, seed: int) -> Scan:
    """Pass once over `rows`, in batches."""
    texts = inputs(columns)
    columns = [column for column in columns if column.role in rows.column_names]
    targets = [column for column in columns if column.target]
    named = next((column for column in targets if column.classes), None)
    measured = next((column.role for column in targets if column.storage == "number"), None)
    numbering: dict[str, int] = {}
    pieces: list[tuple[NDArray[Any], ...]] = []
    start = 0
    for batch in batches(rows):
        keys = _keys(batch, texts, seed)
        answers = _keys(batch, [column.role for column in targets], seed)
        codes, owners = _codes(batch, named, numbering)
        numbers = numbers_of(batch[measured]) if measured else np.empty(0)
        pieces.append((keys, answers, numbers_of(batch["line"]), codes, owners + start, numbers))
        start += len(keys)
    keys, answers, lines, codes, owners, numbers = (np.concatenate(piece) for piece in zip(*pieces, strict=True))
    return Scan(keys, answers, lines, codes, owners, tuple(numbering), numbers if measured else None)


def batches(rows: Mapped) -> Iterator[pa.Table]:
    """The rows as Arrow tables."""
    yield from rows.tables(BATCH_ROWS)


def contents(batch: pa.Table, roles: Sequence[str]) -> list[str]:
    """The texts of all `roles` of each row as one; a column that the file lacks counts as empty."""
    empty, names = [""] * len(batch), batch.column_names
    values = [[_text(value) for value in batch[role].to_pylist()] if role in names else empty for role in roles]
    return [BETWEEN.join(parts) for parts in zip(*values, strict=True)] if values else [""] * len(batch)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return BETWEEN.join(map(_text, value)) if isinstance(value, list) else str(value)


def _keys(batch: pa.Table, roles: Sequence[str], seed: int) -> NDArray[np.uint64]:
    if not roles:
        return np.zeros(len(batch), dtype=np.uint64)
    return np.fromiter((key(content, seed) for content in contents(batch, roles)), dtype=np.uint64, count=len(batch))


def _codes(
    batch: pa.Table, column: Column | None, numbering: dict[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    if column is None:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
    values = batch[column.role].to_pylist()
    groups = values if column.storage == "texts" else [[value] for value in values]
    codes = [numbering.setdefault(name, len(numbering)) for names in groups for name in names]
    owners = np.repeat(np.arange(len(groups)), [len(names) for names in groups])
    return np.array(codes, dtype=np.int32), owners
