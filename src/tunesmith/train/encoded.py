"""The examples of a split, encoded once: the first pass keeps what it encoded on the disk, later ones read it there.

A file holds the examples in the order in which the first pass asked for them, as an Arrow stream with the column `row`;
it is mapped, not loaded, so that memory stays small however many there are. It takes its place when it holds every
row: a run that is killed leaves none behind that is half full.
"""

from __future__ import annotations

import marshal
import os
import tempfile
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.core.files import TEMPORARY
from tunesmith.core.notes import note

Example = dict[str, Any]
ROW = "row"
BLOCK = 1000
"""Examples of a block of the file."""


class Encoded:
    """Examples by the number of their row: encoded when they are asked for, and read from `path` once all are there.

    `encode` must give the same for the same rows. Without a path everything is encoded whenever it is asked for; so it
    is where a file would not give back exactly what was encoded, and where the disk refuses: this is said. May be used
    by several threads.
    """

    def __init__(self, encode: Callable[[list[int]], list[Example]], count: int, path: Path | None) -> None:
        self._encode = encode
        self._count = count
        self._kept = None if path is None else _opened(path, count)
        self._writer = _Writer(path, count) if path is not None and self._kept is None else None
        self._lock = threading.Lock()

    def take(self, numbers: list[int]) -> list[Example]:
        """The examples of these rows, in this order."""
        with self._lock:
            if self._kept is not None:
                return self._kept.take(numbers)
            examples = self._encode(numbers)
            if self._writer is not None:
                self._keep(self._writer, numbers, examples)
            return examples

    def _keep(self, writer: _Writer, numbers: list[int], examples: list[Example]) -> None:
        try:
            writer.add(numbers, examples)
            if writer.missing:
                return
            self._kept = _opened(writer.finish(), self._count)
        except (OSError, ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            note(f"Examples are encoded anew in every epoch, for they can't be kept on the disk: {error}")
        self._writer = None


class _Kept:
    """A whole file."""

    def __init__(self, path: Path, count: int) -> None:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            table = reader.read_all()
        order = table[ROW].to_numpy()  # [rows], the row of each place
        self._places = np.full(count, -1, dtype=np.int64)  # [rows], the place of each row
        self._places[order] = np.arange(len(order))
        if len(order) != count or self._places.min(initial=0) < 0:
            raise ValueError(f"{path} does not hold every row once.")
        self._blocks = table.drop_columns(ROW).to_batches()
        self._ends = np.cumsum([len(block) for block in self._blocks])  # [blocks]

    def take(self, numbers: list[int]) -> list[Example]:
        places = self._places[numbers]
        blocks = np.searchsorted(self._ends, places, side="right")
        offsets = places - (self._ends[blocks] - [len(self._blocks[block]) for block in blocks])
        pieces = [self._blocks[one].slice(at, 1) for one, at in zip(blocks.tolist(), offsets.tolist(), strict=True)]
        return _plain(pa.Table.from_batches(pieces).combine_chunks())


class _Writer:
    """A file that is being filled; it goes with this object unless it was finished."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._written = np.zeros(count, dtype=np.bool_)
        self._waiting: list[pa.Table] = []
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema | None = None

    @property
    def missing(self) -> bool:
        """Whether there are rows that were not added yet."""
        return not self._written.all()

    def add(self, numbers: list[int], examples: list[Example]) -> None:
        """Add the examples that are new; what a file would give back otherwise raises ValueError."""
        new = [place for place, number in enumerate(numbers) if not self._written[number]]
        if not new:
            return
        chosen = [examples[place] for place in new]
        schema = self._schema or _narrow(pa.Table.from_pylist(chosen).schema)
        table = pa.Table.from_pylist(chosen, schema=schema)
        if _spelled(_plain(table)) != _spelled(chosen):
            raise ValueError("a file would not give them back as they are")
        self._schema = schema
        rows = np.array(numbers)[new]
        self._waiting.append(table.append_column(ROW, pa.array(rows, pa.int64())))
        self._written[rows] = True
        if sum(map(len, self._waiting)) >= BLOCK:
            self._flush()

    def finish(self) -> Path:
        """Put the whole file in its place."""
        self._flush()
        assert self._stream is not None
        self._stream.close()
        self._sink.close()
        Path(self._temporary).chmod(0o644)
        Path(self._temporary).replace(self._path)
        self._undo.detach()
        return self._path

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._stream = self._stream or self._begun(table.schema)
        self._stream.write_table(table)
        self._waiting = []

    def _begun(self, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, self._temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=self._path.parent)
        self._undo = weakref.finalize(self, Path(self._temporary).unlink, missing_ok=True)
        os.close(handle)
        self._sink = pa.OSFile(self._temporary, "wb")
        return pa.ipc.new_stream(self._sink, schema)


def _opened(path: Path, count: int) -> _Kept | None:
    """The file, if it is there and whole: any other is written anew."""
    with suppress(OSError, ValueError, KeyError, IndexError, pa.ArrowException):
        return _Kept(path, count)
    return None


def _narrow(found: Any) -> Any:
    """The schema with 32 bits for a whole number inside a list: a number of a token or of a place."""
    if isinstance(found, pa.Schema):
        return pa.schema([(one.name, _narrow(one.type)) for one in found])
    if pa.types.is_struct(found):
        return pa.struct([(one.name, _narrow(one.type)) for one in found.fields])
    if pa.types.is_list(found):
        return pa.list_(pa.int32() if pa.types.is_int64(found.value_type) else _narrow(found.value_type))
    return found


def _spelled(examples: list[Example]) -> bytes:
    """The examples with their types, as `==` does not see them: 1 is not 1.0."""
    return marshal.dumps(examples, 2)


def _plain(table: pa.Table) -> list[Example]:
    """The rows of a table as Python objects; much faster for lists of numbers than Arrow's own way."""
    columns = [_values(column.combine_chunks()) for column in table.columns]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(array: pa.Array) -> list[Any]:
    kind = array.type
    if pa.types.is_list(kind) and not array.null_count:
        values = _values(array.flatten())
        ends = np.cumsum(array.value_lengths().to_numpy(), dtype=np.int64).tolist()
        return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not array.null_count:
        found: list[Any] = array.to_numpy().tolist()
        return found
    plain: list[Any] = array.to_pylist()
    return plain
