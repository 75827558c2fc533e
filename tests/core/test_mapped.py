"""Rows that are mapped from a file: what comes back is what `datasets.Dataset` gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from tunesmith.core import mapped
from tunesmith.core.mapped import Mapped
from tunesmith.core.rows import each, take


def row(number: int) -> dict[str, Any]:
    return {
        "text": f"text {number}" if number % 5 else None,
        "ids": list(range(number % 4)),
        "words": [f"w{one}" for one in range(number % 3)] if number % 7 else None,
        "spans": [{"start": one, "text": "x"} for one in range(number % 3)],
        "flags": [True, number % 2 == 0],
        "deep": [[one, number] for one in range(number % 2)],
        "score": number / 3,
        "line": number,
    }


ROWS = [row(number) for number in range(23)]


@pytest.fixture(params=[1, 5, 100], ids=lambda size: f"blocks of {size}")
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Mapped:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=request.param)
    return Mapped.from_file(tmp_path / "rows.arrow")


@pytest.mark.parametrize(
    "places",
    [slice(0, 5), slice(None), slice(20, 40), slice(30, 40), slice(-3, None), slice(0, 23, 4), slice(5, 2),
     [3], [22, 0, 7, 7], [], [-1, 4], [5, 6, 7], np.array([1, 2]), range(4)],
    ids=str,
)  # fmt: skip
def test_rows_are_those_of_datasets(kept: Mapped, places: Any) -> None:
    reference = Dataset.from_list(ROWS)
    expected = reference[list(places) if isinstance(places, range) else places]
    assert repr(kept[places]) == repr(dict(expected))
    assert kept.table(places).column_names == kept.column_names


def test_one_row_one_column_and_all_rows(kept: Mapped) -> None:
    assert kept[4] == ROWS[4] and kept[-1] == ROWS[-1]
    assert kept["score"] == [one["score"] for one in ROWS]
    assert list(kept) == ROWS == list(each(kept)) == take(kept, slice(None))
    assert [len(block) for block in kept.tables(10)] == [10, 10, 3]


@pytest.mark.parametrize("places", [[23], [-24], [0, 99]], ids=str)
def test_a_place_that_is_not_there(kept: Mapped, places: list[int]) -> None:
    with pytest.raises(IndexError, match="There are 23 rows"):
        kept[places]
    with pytest.raises(IndexError):
        kept[places[-1]]


@pytest.mark.parametrize("close", [0, 4])
def test_selected_rows_are_rows_again(kept: Mapped, close: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "CLOSE", close)
    chosen = [2, 3, 5, 8, 13, 21, 1]
    found = kept.select(chosen)
    assert len(found) == 7 and list(found) == [ROWS[place] for place in chosen]
    assert found[[6, 0]]["line"] == [1, 2]
    assert found[1:3]["line"] == [3, 5]
    assert list(found.select(np.array([5, 5]))) == [ROWS[21]] * 2
    assert found["line"] == chosen and found[0] == ROWS[2]


def test_columns_are_chosen_and_named(kept: Mapped) -> None:
    found = kept.select([4, 2]).select_columns(["line", "ids"]).rename_columns({"ids": "numbers"})
    assert found.column_names == ["line", "numbers"]
    assert list(found) == [{"line": 4, "numbers": []}, {"line": 2, "numbers": [0, 1]}]


def test_rows_from_a_list() -> None:
    assert list(Mapped.from_list(ROWS)) == ROWS


def test_a_table_of_either_kind() -> None:
    for rows in (Mapped.from_list(ROWS), Dataset.from_list(ROWS)):
        assert mapped.table_of(rows, slice(2, 4)).column("line").to_pylist() == [2, 3]


def test_a_file_that_holds_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.arrow").write_bytes(b"something else")
    with pytest.raises(pa.ArrowInvalid):
        Mapped.from_file(tmp_path / "rows.arrow")


@pytest.mark.parametrize("values", [[1, 2, 3], [1.5, 2.0, -3.0], [], [4, None, 6]], ids=str)
def test_numbers_are_those_of_arrow(values: list[Any]) -> None:
    column = pa.chunked_array([pa.array(values, pa.float64()), pa.array(values[:1], pa.float64())])
    expected = [value or 0 for value in (*values, *values[:1])]
    assert mapped.numbers_of(column).tolist() == expected


PLAIN = """
import sys
from tunesmith.core.mapped import Mapped
rows = Mapped.from_file(sys.argv[1])
found = rows.select([5, 1, 2])[[0, 2]], rows[3], [len(block) for block in rows.tables(4)]
print("pandas" in sys.modules)
"""


def test_reading_loads_no_pandas(tmp_path: Path) -> None:
    # Half a second at every start, for nothing.
    table = pa.Table.from_pylist([{**one, "text": "x"} for one in ROWS])
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "rows.arrow")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_rows_of_several_are_rows_again(kept: Mapped) -> None:
    chosen, few = kept.select([5, 2, 2]), Mapped.from_list(ROWS[20:])
    reordered = few.select_columns(list(reversed(few.column_names)))
    found = Mapped.joined([chosen, reordered, kept])
    assert found.column_names == kept.column_names
    assert list(found) == [*chosen, *few, *kept]
    assert found[[0, 3, 5, 6, 28]]["line"] == [5, 20, 22, 0, 22]
    assert list(found.select([4, 1])) == [ROWS[21], ROWS[2]]
    assert list(Mapped.joined([few, kept])) == [*few, *kept]


def test_a_column_that_is_the_same_in_every_row(kept: Mapped) -> None:
    found = kept.select([3, 1]).with_column("more", None, pa.string()).with_column("kind", "b", pa.string())
    assert found[:]["more"] == [None, None] and found["kind"] == ["b", "b"]
    assert found["line"] == [3, 1] and "more" not in kept.column_names
