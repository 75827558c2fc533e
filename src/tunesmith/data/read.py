"""Reading a file: every needed cell parsed and checked, the result kept as memory-mapped Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.core import files
from tunesmith.core.column import Column
from tunesmith.core.errors import DataError, raise_together
from tunesmith.core.mapped import Mapped
from tunesmith.data import cache, linked
from tunesmith.data.columns import find
from tunesmith.data.faults import Faults
from tunesmith.data.formats import stream
from tunesmith.data.rows import Source

BATCH_ROWS = 10_000
# Long documents fill a batch earlier: neither memory nor Arrow's 32-bit offsets may overflow.
BATCH_CHARACTERS = 1 << 25
STORED = {
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "number": pa.float64(),
    "turns": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    "spans": pa.list_(pa.struct([("start", pa.int64()), ("text", pa.string())])),
}


@dataclass(frozen=True)
class Table:
    """The rows of one file: a column a role, and `line`; `columns` maps roles to the file's columns.

    contents: the rows as they are compared with each other: of a file that a row names, the hash of its bytes.
    """

    rows: Mapped
    path: Path
    columns: dict[str, str]
    sha256: str
    contents: Mapped


def read(path: Path, columns: Sequence[Column], *, need_targets: bool = True) -> Table:
    """Read a file into a `Table`; raise DataError with all that is wrong with it, line by line.

    Memory stays constant: rows pass through in batches, and what comes back is mapped from the disk.
    """
    faults = Faults(path)
    with stream(path, faults) as source:
        matched = find(source.names, columns, faults=faults, need_targets=need_targets)
        used = [column for column in columns if column.role in matched]
        named = [column.role for column in used if column.path]
        links = bool(named) or path.is_dir()
        digest = linked.stamp(path, [matched[role] for role in named]) if links else files.sha256(path)
        kept = cache.folder() / f"{cache.name(digest, columns, matched)}.arrow"
        if faults.total or not kept.exists():
            _write(kept, _parsed(source, used, matched=matched, faults=faults), columns=used, faults=faults)
    rows, contents = linked.apart(Mapped.from_file(str(kept)), named)
    return Table(rows, path, matched, linked.digest(contents) if links else digest, contents)


def glance(path: Path, columns: Sequence[Column], rows: int = 200) -> None:
    """Raise DataError with what is wrong with a file's columns, or within its first rows. Nothing is kept."""
    faults = Faults(path)
    with stream(path, faults) as source:
        matched = find(source.names, columns, faults=faults)
        used = [column for column in columns if column.role in matched]
        first = replace(source, rows=islice(source.rows, rows))
        for _ in _parsed(first, used, matched=matched, faults=faults):
            pass
    faults.raise_all()


def _write(path: Path, rows: Iterator[list[Any]], *, columns: Sequence[Column], faults: Faults) -> None:
    """Write the rows, unless faults turn up: then raise them and leave no file."""
    fields = [(column.role, STORED[column.storage]) for column in columns]
    hashes = [(linked.hash_of(column.role), pa.string()) for column in columns if column.path]
    schema = pa.schema([*fields, ("line", pa.int64()), *hashes])
    with files.writing(path) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for batch in _batches(rows):
                if not faults.total:
                    arrays = [
                        pa.array(list(values), kind)
                        for values, kind in zip(zip(*batch, strict=True), schema.types, strict=True)
                    ]
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        faults.raise_all()


def _batches(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    batch: list[list[Any]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        for value in row:
            if isinstance(value, str):
                characters += len(value)
        if len(batch) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _parsed(
    source: Source, columns: Sequence[Column], *, matched: dict[str, str], faults: Faults
) -> Iterator[list[Any]]:
    """Parsed rows: a value a column, the line, and the hash of every file that the row names. A row with a bad cell is
    left out; each bad cell is a fault.
    """
    named = [place for place, column in enumerate(columns) if column.path]
    plan = [
        (matched[column.role], _located(column, faults.path), column.optional or column.storage == "texts")
        for column in columns
    ]
    places = {column.role: place for place, column in enumerate(columns)}
    levels = [(column.role, column.level) for column in columns if column.level in places]
    for number, raw in source.rows:
        row: list[Any] = []
        for name, parse, optional in plan:
            try:
                if name not in raw and not optional:
                    raise ValueError("is missing")
                row.append(parse(raw.get(name)))
            except (ValueError, OverflowError) as error:
                faults.add(f"{source.unit} {number}, column '{name}': {error}", at=number)
        uneven = [
            f"{len(row[places[role]])} {role} for {len(row[places[other]])} {other}"
            for role, other in levels
            if len(row) == len(plan) and len(row[places[role]]) != len(row[places[other]])
        ]
        for sentence in uneven:
            faults.add(f"{source.unit} {number}: {sentence}", at=number)
        if len(row) == len(plan) and not uneven:
            yield [*row, number, *(linked.sha256(row[place]) for place in named)]


def _located(column: Column, path: Path) -> Callable[[object], Any]:
    """The column's parser; of paths, one that gives it the whole path, from the folder of the rows' file on."""
    if not column.path:
        return column.parse

    def parse(value: object) -> Any:
        found = linked.whole(path, value)
        if found is not None and not found.is_file():
            raise ValueError(f"names no file: there is no {found}")
        return column.parse(value if found is None else str(found.resolve()))

    return parse


def read_all(paths: dict[str, Path], columns: Sequence[Column], *, need_targets: bool = True) -> dict[str, Table]:
    """Read several files; raise DataError with the faults of all of them together."""
    tables: dict[str, Table] = {}
    errors: list[DataError] = []
    for split, path in paths.items():
        try:
            tables[split] = read(path, columns, need_targets=need_targets)
        except DataError as error:
            errors.append(error)
    raise_together(errors)
    return tables
