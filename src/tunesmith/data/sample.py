"""A first look at a file: the names of its columns and its first rows, as they stand there."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tunesmith.data.faults import Faults
from tunesmith.data.formats import stream
from tunesmith.data.sources import training_file


def peek(path: Path | str, rows: int = 200, *, lenient: bool = False) -> tuple[list[str], list[dict[str, object]]]:
    """Column names and the first raw rows of a file, or of a folder's training file.

    Raise DataError if it can't be read, or if something is wrong within these rows. With `lenient`, faulty rows are
    passed over as long as there are others: for who reads the whole file next, and is told of all its faults then.
    """
    file = training_file(Path(path).expanduser())
    faults = Faults(file)
    with stream(file, faults) as source:
        first = [row for _, row in islice(source.rows, rows)]
        names = source.names
    if not (lenient and first):
        faults.raise_all()
    return names, first
