"""The examples of a split, encoded once: the first pass keeps what it encoded on the disk, later ones read it there.

A file holds the examples in the order in which the first pass asked for them, as an Arrow stream with the column `row`;
it is mapped, not loaded, so that memory stays small however many there are. It takes its place when it holds every
row: a run that is killed leaves none behind that is half full.
"""

from __future__ import annotations

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
from tunesmith.core.mapped import Mapped, rows_of
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
        stored = Mapped.from_file(path)
        order = np.array(stored[ROW], dtype=np.int64)  # [rows], the row of each place
        self._places = np.full(count, -1, dtype=np.int64)  # [rows], the place of each row
        self._places[order] = np.arange(len(order))
        if len(order) != count or self._places.min(initial=0) < 0:
            raise ValueError(f"{path} does not hold every row once.")
        self._examples = stored.select_columns([name for name in stored.column_names if name != ROW])

    def take(self, numbers: list[int]) -> list[Example]:
        return rows_of(self._examples.table(self._places[numbers]))


class _Writer:
    """A file that is being filled; it goes with this object unless it was finished."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._written = np.zeros(count, dtype=np.bool_)
        self._rows: list[int] = []
        self._examples: list[Example] = []
        self._spelled: list[str] = []
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema | None = None

    @property
    def missing(self) -> bool:
        """Whether there are rows that were not added yet."""
        return not self._written.all()

    def add(self, numbers: list[int], examples: list[Example]) -> None:
        """Add the examples that are new, as they are now; what a file would give back otherwise raises ValueError."""
        for number, example in zip(numbers, examples, strict=True):
            if not self._written[number]:
                self._written[number] = True
                self._rows.append(number)
                self._examples.append(dict(example))
                self._spelled.append(_spelled(example))
        if len(self._rows) >= BLOCK:
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
        if not self._rows:
            return
        self._schema = self._schema or _narrow(pa.Table.from_pylist(self._examples).schema)
        table = pa.Table.from_pylist(self._examples, schema=self._schema)
        if [_spelled(example) for example in rows_of(table)] != self._spelled:
            raise ValueError("a file would not give them back as they are")
        table = table.append_column(ROW, pa.array(self._rows, pa.int64()))
        self._stream = self._stream or self._begun(table.schema)
        self._stream.write_table(table)
        self._rows, self._examples, self._spelled = [], [], []

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
    """The schema with 32 bits for a whole number inside a list: a number of a token or of a place.

    Bytes raise ValueError: what was an array looks like them.
    """
    if isinstance(found, pa.DataType) and pa.types.is_binary(found):
        raise ValueError("a file would give arrays back as bytes")
    if isinstance(found, pa.Schema):
        return pa.schema([(one.name, _narrow(one.type)) for one in found])
    if pa.types.is_struct(found):
        return pa.struct([(one.name, _narrow(one.type)) for one in found.fields])
    if pa.types.is_list(found):
        return pa.list_(pa.int32() if pa.types.is_int64(found.value_type) else _narrow(found.value_type))
    return found


def _spelled(example: Example) -> str:
    """An example with the types of its values, as `==` does not see them: 1 is not 1.0."""
    return repr(example)
