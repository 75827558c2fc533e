"""Rows by number, in blocks."""

import pytest
from datasets import Dataset

from tunesmith.core import rows
from tunesmith.core.rows import Bins, Joined, blocks, each, line_of, take

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


def test_rows_of_several_files_stand_one_after_another() -> None:
    first, second = [{"text": "a", "line": 2}, {"text": "b", "line": 3}], [{"text": "c", "line": 1, "pair": "d"}]
    rows = Joined([Dataset.from_list(first), Dataset.from_list(second)], ["a.csv", "b.csv"])
    every = [*({**row, "pair": None, "file": "a.csv"} for row in first), {**second[0], "file": "b.csv"}]
    assert len(rows) == 3
    assert list(each(rows)) == every
    assert take(rows, [2, 0, 2, 1]) == [every[place] for place in (2, 0, 2, 1)]
    assert take(rows, slice(1, 99)) == every[1:]
    # Without a row of the other file nothing is missing.
    assert take(rows, [0]) == [{"text": "a", "line": 2, "file": "a.csv"}]
    assert take(rows, []) == []
    with pytest.raises(IndexError):
        take(rows, [3])


def test_packed_rows_of_several_files() -> None:
    one, two = ([{"line": number} for number in lines] for lines in ([2, 3], [7]))
    rows = Joined([Bins(Dataset.from_list(one), [[1, 0]]), Bins(Dataset.from_list(two), [[0]])], ["a", "b"])
    assert take(rows, [1, 0]) == [
        {"members": [{"line": 7}], "file": "b"},
        {"members": [{"line": 3}, {"line": 2}], "file": "a"},
    ]
    assert [line_of(row) for row in each(rows)] == ["3 of a", "7 of b"]


def test_a_row_is_found_by_its_line() -> None:
    assert line_of({"line": 7}) == "7"
    assert line_of({"line": 7, "file": "b.csv"}) == "7 of b.csv"
    assert line_of({"members": [{"line": 4}, {"line": 9}]}) == "4"
    assert line_of({"text": "a", "file": "b.csv"}) == ""
