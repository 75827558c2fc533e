"""Examples that are encoded once and kept on disk: memory stays small however many there are."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.core.mapped import Mapped

BATCH = 1000


def keep(examples: Iterable[Mapping[str, Any]]) -> Mapped:
    """The examples, mapped from a file that lives as long as they do; all have the keys of the first.

    No example at all raises ValueError.
    """
    waiting = iter(examples)
    first = list(islice(waiting, BATCH))
    if not first:
        raise ValueError("There are no examples to keep.")
    table = pa.Table.from_pylist(first)
    handle, name = tempfile.mkstemp(prefix="tunesmith-", suffix=".arrow")
    with os.fdopen(handle, "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
        while block := list(islice(waiting, BATCH)):
            writer.write_table(pa.Table.from_pylist(block, schema=table.schema))
    kept = Mapped.from_file(name)
    weakref.finalize(kept, Path(name).unlink, missing_ok=True)
    return kept
