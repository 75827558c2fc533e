"""A file of any known kind as a stream of numbered raw rows; what is wrong with its lines goes into `Faults`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.core.errors import DataError
from tunesmith.data import conll, folders, json_rows, plain
from tunesmith.data.delimited import Delimited
from tunesmith.data.faults import Faults
from tunesmith.data.opening import CONLL_ENDINGS, ending, inspect, lines, opened
from tunesmith.data.rows import Numbered, Source

# JSON has no header: its columns are the keys of the first rows.
ROWS_FOR_NAMES = 200
PARQUET_BATCH = 1000
SEPARATORS = {".csv": ",", ".tsv": "\t"}


@contextmanager
def stream(path: Path, faults: Faults) -> Iterator[Source]:
    """Open a file, or a folder of images, as a `Source`; raise DataError if it as a whole can't be read."""
    if folders.is_one(path):
        yield folders.source(path)
        return
    inspect(path)
    with opened(path) as file:
        source = _source(file, ending(path), faults)
        yield Source(source.names, _counted(source.rows, faults), source.unit)


def _source(file: IO[bytes], kind: str, faults: Faults) -> Source:
    if kind == ".parquet":
        return _parquet(file, faults.path)
    text = lines(file, faults)
    if kind in SEPARATORS:
        rows = Delimited(text, SEPARATORS[kind], faults=faults)
        return Source(rows.names, rows)
    if kind == ".txt":
        return Source(plain.NAMES, plain.from_lines(text))
    if kind in CONLL_ENDINGS:
        return conll.source(text, faults)
    if kind == ".json":
        return _with_names(json_rows.from_list(text, faults), "row")
    return _with_names(json_rows.from_lines(text, faults), "line")


def _with_names(rows: Iterator[Numbered], unit: str) -> Source:
    first = list(islice(rows, ROWS_FOR_NAMES))
    names = list(dict.fromkeys(name for _, row in first for name in row))
    return Source(names, chain(first, rows), unit)


def _parquet(file: IO[bytes], path: Path) -> Source:
    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is a damaged Parquet file: {error}.", hint="Write or copy it once more.") from error
    return Source(list(table.schema_arrow.names), _parquet_rows(table, path), "row")


def _parquet_rows(table: pq.ParquetFile, path: Path) -> Iterator[Numbered]:
    number = 0
    try:
        for batch in table.iter_batches(batch_size=PARQUET_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is damaged behind row {number}: {error}.", hint="Write or copy it once more."
        ) from error


def _counted(rows: Iterable[Numbered], faults: Faults) -> Iterator[Numbered]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty and not faults.total:
        faults.add("it has no rows, only a header", hint="Put rows under the header.")
