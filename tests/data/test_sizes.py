"""How large rows are."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from tunesmith.core import rows
from tunesmith.data import sizes
from tunesmith.recipe import from_values

LEAST = {"data": "rows.csv", "task": "classify"}


def test_sizes_are_characters_of_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 2)
    monkeypatch.setattr(sizes, "BLOCK", 2)
    table = Dataset.from_list([{"text": text, "pair": "xy", "label": "long label"} for text in ("a", "äöü", "🚀" * 5)])
    pairs = from_values(LEAST | {"task": {"name": "classify", "pair": "pair"}})
    single = from_values(LEAST).task
    assert sizes.sizes(table, pairs.task).tolist() == [3, 5, 7]
    assert sizes.sizes(table, single).tolist() == [1, 3, 5]
    assert sizes.sizes(table, single).dtype == np.int64
    assert sizes.sizes(rows.Bins(table, [[0, 2], [1]]), single).tolist() == [6, 3]


def test_sizes_of_what_a_task_arranged_are_tokens() -> None:
    table = Dataset.from_list([{"input_ids": [5] * n, "text": "x"} for n in (4, 2)])
    assert sizes.sizes(table, from_values(LEAST).task).tolist() == [4, 2]


def test_sizes_over_several_files() -> None:
    table = Dataset.from_list([{"text": text} for text in ("a", "bcd", "ef")])
    joined = rows.Joined([table, rows.Bins(table, [[1, 2]])], ["a.csv", "b.csv"])
    assert sizes.sizes(joined, from_values(LEAST).task).tolist() == [1, 3, 2, 5]
