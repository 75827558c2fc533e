"""Rows in Arrow's layout, mapped from a file: they take no memory until they are read, however many there are.

What is asked of them is what `datasets.Dataset` answers too, so that either may stand for a split; this one is all that
a run needs, and starts at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tunesmith.core.column import Row
from tunesmith.core.rows import Rows

Places = slice | Sequence[int] | NDArray[np.int64]
CLOSE = 4
"""How many rows may lie between those that are wanted for all of them to be read at once."""


class Mapped:
    """A table of which all rows, or those at `places`, are the rows of this one."""

    def __init__(self, table: pa.Table, places: NDArray[np.int64] | None = None) -> None:
        self._table = table
        self._places = places
        self._blocks = table.to_batches()
        self._ends = np.cumsum([len(block) for block in self._blocks], dtype=np.int64)  # [blocks]

    @classmethod
    def from_file(cls, path: str | Path) -> Mapped:
        """The rows of a file that holds an Arrow stream. A file that is none raises pyarrow.ArrowInvalid."""
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            return cls(reader.read_all())

    @classmethod
    def from_list(cls, rows: Sequence[Mapping[str, Any]]) -> Mapped:
        """Rows with the columns of the first."""
        return cls(pa.Table.from_pylist(list(rows)))

    @classmethod
    def joined(cls, parts: Sequence[Mapped]) -> Mapped:
        """The rows of several, one after another; all have the columns of the first."""
        names = parts[0].column_names
        table = pa.concat_tables([part._table.select(names) for part in parts])
        if all(part._places is None for part in parts):
            return cls(table)
        places, start = [], 0
        for part in parts:
            places.append(start + (np.arange(len(part)) if part._places is None else part._places))
            start += len(part._table)
        return cls(table, np.concatenate(places))

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names)

    def __len__(self) -> int:
        return len(self._table) if self._places is None else len(self._places)

    @overload
    def __getitem__(self, places: int) -> Row: ...
    @overload
    def __getitem__(self, places: str) -> list[Any]: ...
    @overload
    def __getitem__(self, places: Places) -> dict[str, list[Any]]: ...
    def __getitem__(self, places: int | str | Places) -> Any:
        """Rows as columns; of one place a row, of one name a column."""
        if isinstance(places, str):
            return self.select_columns([places])[:][places]
        if isinstance(places, int | np.integer):
            return {name: values[0] for name, values in self[[range(len(self))[int(places)]]].items()}
        return columns_of(self.table(places))

    def __iter__(self) -> Iterator[Row]:
        for block in self.tables(1000):
            yield from rows_of(block)

    def table(self, places: Places) -> pa.Table:
        """The rows at these places as an Arrow table."""
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            if self._places is None and step == 1:
                return self._table.slice(start, max(0, stop - start))
            places = np.arange(start, stop, step)
        wanted = np.asarray(places, dtype=np.int64)
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"There are {len(self)} rows: none at {wanted.min()} or at {wanted.max()}.")
        return self._gathered(wanted if self._places is None else self._places[wanted])

    def tables(self, size: int) -> Iterator[pa.Table]:
        """All rows, as Arrow tables of `size` rows, the last one of fewer."""
        for start in range(0, len(self), size):
            yield self.table(slice(start, start + size))

    def select(self, places: Sequence[int] | NDArray[np.int64]) -> Mapped:
        """The rows at these places."""
        chosen = np.asarray(places, dtype=np.int64)
        return Mapped(self._table, chosen if self._places is None else self._places[chosen])

    def select_columns(self, names: Sequence[str]) -> Mapped:
        """The rows with these columns alone."""
        return Mapped(self._table.select(list(names)), self._places)

    def rename_columns(self, names: Mapping[str, str]) -> Mapped:
        """The rows with other names for some columns."""
        return Mapped(self._table.rename_columns([names.get(name, name) for name in self.column_names]), self._places)

    def with_column(self, name: str, value: Any, kind: pa.DataType) -> Mapped:
        """The rows with one more column, that has this value in all of them."""
        column = pa.repeat(pa.scalar(value, kind), len(self._table))
        return Mapped(self._table.append_column(name, column), self._places)

    def _gathered(self, wanted: NDArray[np.int64]) -> pa.Table:
        if not len(wanted):
            return self._table.slice(0, 0)
        low, width = int(wanted.min()), int(np.ptp(wanted)) + 1
        if width <= CLOSE * len(wanted):
            return self._table.slice(low, width).combine_chunks().take(_numbers(wanted - low))
        blocks = np.searchsorted(self._ends, wanted, side="right")
        starts = self._ends[blocks] - np.array([len(block) for block in self._blocks])[blocks]
        offsets = (wanted - starts).tolist()
        pieces = [self._blocks[block].slice(at, 1) for block, at in zip(blocks.tolist(), offsets, strict=True)]
        return pa.Table.from_batches(pieces).combine_chunks()


def _numbers(values: NDArray[np.int64]) -> pa.Array:
    # pa.array would load pandas, to learn that this is none of its own.
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def rows_of(table: pa.Table) -> list[Row]:
    """The rows of a table as Python objects."""
    found = columns_of(table)
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


def columns_of(table: pa.Table) -> dict[str, list[Any]]:
    """The columns of a table as Python objects; much faster for lists of numbers than Arrow's own way."""
    return {
        name: [value for chunk in column.chunks for value in _values(chunk)]
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def numbers_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers as numpy's; what is missing is 0."""
    whole = column.combine_chunks()
    # numpy asks for the numbers: Arrow's own way to give them would load pandas.
    return np.from_dlpack(pc.fill_null(whole, 0) if whole.null_count else whole)


def _values(array: pa.Array) -> list[Any]:
    kind = array.type
    if pa.types.is_list(kind) and not array.null_count:
        values = _values(array.flatten())
        ends = np.cumsum(np.from_dlpack(array.value_lengths()), dtype=np.int64).tolist()
        return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not array.null_count:
        numbers: list[Any] = np.from_dlpack(array).tolist()
        return numbers
    plain: list[Any] = array.to_pylist()
    return plain


def table_of(rows: Rows, places: Places) -> pa.Table:
    """Rows of a split at these places as an Arrow table, also where the split is a `datasets.Dataset`."""
    if isinstance(rows, Mapped):
        return rows.table(places)
    arrow: Any = rows
    return arrow.with_format("arrow")[places]
