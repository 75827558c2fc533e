"""Rows that no split holds, as `ood` reads them: other labelled files, their groups, rows of no class; and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.core.column import Column
from tunesmith.core.errors import DataError
from tunesmith.core.part import Task
from tunesmith.core.rows import Rows, blocks, each
from tunesmith.data.read import read

NO_GROUP = "(empty)"


def truths_of(task: Task, rows: Rows, path: str) -> np.ndarray:
    """The right answers of a file's rows; one that the task does not know raises DataError with the file's name."""
    try:
        return task.truths(each(rows))
    except DataError as error:
        raise DataError(
            f"{path}: {error.message}", hint="Rows that belong to no class go into a file of their own: ood.outside."
        ) from None


def labelled(task: Task, path: str) -> Rows:
    """The rows of a labelled file; what is wrong with it raises DataError."""
    return read(Path(path), task.columns()).rows


def unlabelled(task: Task, path: str) -> Rows:
    """The rows of a file of which the answers are not read; what is wrong with it raises DataError."""
    return read(Path(path), task.columns(), need_targets=False).rows


def groups_of(path: str, column: str) -> np.ndarray:
    """The group of every row of a file [rows], as texts: the values of a column that the task does not read. A file
    without it raises DataError.
    """
    try:
        rows = read(Path(path), [Column("group", column, (), _group, optional=True)]).rows
    except DataError as error:
        raise DataError(error.message, hint="ood.groups names a column that every file of ood.data has.") from None
    return np.array([row["group"] for row in each(rows)])


def lengths(task: Task, rows: Rows) -> np.ndarray | None:
    """How many characters of text each row gives the model [rows]; None where it gives none, as with images."""
    roles = [one.role for one in task.columns() if not one.target and not one.path and one.storage != "number"]
    if not roles:
        return None
    return np.array([sum(_characters(row.get(role)) for role in roles) for block in blocks(rows) for row in block])


def _group(value: object) -> str:
    told = "" if value is None else str(value).strip()
    return told or NO_GROUP


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, Sequence) else 0
