"""Several training files as one training split.

The files are read with the same columns, are looked at together (duplicates, leaks, classes) and stand in the split one
after another. How much of each an epoch takes is not decided here, but in `train/mix.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tunesmith.core.column import Column
from tunesmith.core.mapped import Mapped
from tunesmith.core.rows import Joined, Rows
from tunesmith.data.read import STORED, Table
from tunesmith.data.scan import Scan
from tunesmith.data.slices import Slice
from tunesmith.data.sources import is_mixed, mixed_name

TRAIN = "train"


def completed(tables: Mapping[str, Table], columns: Sequence[Column]) -> dict[str, Table]:
    """The files, those of training with the same roles: one that some of them have, and another lacks, is empty there.

    So they are what they would be if their rows stood in one file.
    """
    training = {name: table for name, table in tables.items() if name == TRAIN or is_mixed(name)}
    there = {role for table in training.values() for role in table.columns}
    missing = [column for column in columns if column.optional and column.role in there]
    return {**tables, **{name: _with(table, missing) for name, table in training.items()}}


def _with(table: Table, columns: Sequence[Column]) -> Table:
    for column in columns:
        if column.role not in table.columns:
            value, kind = column.parse(None), STORED[column.storage]
            rows, contents = (some.with_column(column.role, value, kind) for some in (table.rows, table.contents))
            # No file has a column without a name, so that what is kept of these rows has a name of its own.
            table = replace(table, rows=rows, contents=contents, columns={**table.columns, column.role: ""})
    return table


def parts_of(train: Slice, files: Mapping[str, Slice]) -> list[Slice]:
    """What trains, a slice a file: of the first what was not split off it, of the others all."""
    return [train, *(part for name, part in files.items() if is_mixed(name))]


def named(parts: Sequence[Slice]) -> dict[str, Slice]:
    """The parts of a training split by the names of their files in the recipe."""
    return {mixed_name(place - 1) if place else TRAIN: part for place, part in enumerate(parts)}


def merged(files: Mapping[str, Slice]) -> dict[str, Slice]:
    """The files as a whole, those that train as one."""
    rest = {name: part for name, part in files.items() if name != TRAIN and not is_mixed(name)}
    return {TRAIN: joined(parts_of(files[TRAIN], files)), **rest}


def joined(parts: Sequence[Slice]) -> Slice:
    """The rows of several files as one slice, whose scan knows the file of each row."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0].table
    rows, contents = (
        Mapped.joined([some.select(part.positions) for part, some in zip(parts, several, strict=True)])
        for several in ([part.table.rows for part in parts], [part.table.contents for part in parts])
    )
    told = [
        [part.table.sha256, part.table.columns, hashlib.sha256(part.positions.tobytes()).hexdigest()] for part in parts
    ]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    scan = Scan.joined([part.scan for part in parts], [str(part.table.path) for part in parts])
    return Slice(Table(rows, first.path, first.columns, digest, contents), scan, np.arange(len(scan)))


def rows_of(parts: Sequence[Slice]) -> Rows:
    """The rows of a training split, which say their file where there are several."""
    if len(parts) == 1:
        return parts[0].rows()
    return Joined([part.rows() for part in parts], [str(part.table.path) for part in parts])
