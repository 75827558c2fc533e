"""Rows by number, in blocks."""

import pytest
from datasets import Dataset

from tunesmith.core import rows
from tunesmith.core.rows import Bins, blocks, each, take

TABLE = Dataset.from_list([{"text": str(number), "number": number} for number in range(10)])


def test_rows_come_in_the_order_asked_for() -> None:
    assert take(TABLE, [3, 0, 3]) == [
        {"text": "3", "number": 3},
        {"text": "0", "number": 0},
        {"text": "3", "number": 3},
    ]
    assert [row["number"] for row in take(TABLE, slice(7, 99))] == [7, 8, 9]
    assert take(TABLE, []) == []


@pytest.mark.parametrize(("size", "lengths"), [(4, [4, 4, 2]), (5, [5, 5]), (100, [10])])
def test_blocks_hold_every_row_once(size: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", size)
    found = list(blocks(TABLE))
    assert [len(block) for block in found] == lengths
    assert [row for block in found for row in block] == list(each(TABLE)) == list(TABLE)


def test_bins_give_several_rows_as_one() -> None:
    rows = Dataset.from_list([{"text": letter} for letter in "abcd"])
    bins = Bins(rows, [[2], [0, 3]])
    assert len(bins) == 2
    assert take(bins, [1, 0]) == [{"members": [{"text": "a"}, {"text": "d"}]}, {"members": [{"text": "c"}]}]
    assert take(bins, slice(0, 1)) == [{"members": [{"text": "c"}]}]
