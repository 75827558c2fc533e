"""The first look."""

from __future__ import annotations

import pytest

from tests.data.conftest import Write
from tunesmith.core.errors import DataError
from tunesmith.data.sample import peek


def test_names_and_first_raw_rows(write: Write) -> None:
    path = write("rows/train.csv", "text,stars\n" + "".join(f"row {row},{row % 5}\n" for row in range(1000)))
    names, rows = peek(path)
    assert (names, len(rows), rows[0]) == (["text", "stars"], 200, {"text": "row 0", "stars": "0"})
    assert peek(path.parent, 3) == (names, rows[:3])


def test_faults_in_the_first_rows_are_raised(write: Write) -> None:
    with pytest.raises(DataError, match="line 2: 2 cells are expected, 1 found"):
        peek(write("a.csv", "text,label\nx\n"))
