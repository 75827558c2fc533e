"""How large rows are, as far as it can be told without encoding them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.core.mapped import numbers_of, table_of
from tunesmith.core.part import Task
from tunesmith.core.rows import BLOCK, Bins, Joined, Rows


def sizes(rows: Rows, task: Task) -> np.ndarray:
    """The size of each row, over the columns that are read: characters of texts, items of lists, tokens where the task
    arranged them: [rows]. Images are all alike.
    """
    if isinstance(rows, Joined):
        return np.concatenate([sizes(part, task) for part in rows.parts])
    if isinstance(rows, Bins):
        members = sizes(rows.rows, task)
        return np.array([members[list(one)].sum() for one in rows.bins])
    if task.reads == "images":
        return np.ones(len(rows), dtype=np.int64)
    names = table_of(rows, slice(0, 0)).column_names
    arranged = ["input_ids"] if "input_ids" in names else []
    inputs = arranged or [column.role for column in task.columns() if not column.target]
    inputs = [name for name in inputs if name in names]
    blocks = [_sizes(table_of(rows, slice(start, start + BLOCK)), inputs) for start in range(0, len(rows), BLOCK)]
    return np.concatenate(blocks)


def _sizes(block: pa.Table, inputs: list[str]) -> np.ndarray:
    total = np.zeros(block.num_rows, dtype=np.int64)
    for name in inputs:
        column = block.column(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            total += numbers_of(pc.utf8_length(column))
        elif pa.types.is_list(column.type):
            total += numbers_of(pc.list_value_length(column))
    return total
