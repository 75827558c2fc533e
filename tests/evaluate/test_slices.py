"""Slices of a split, each beside the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests.evaluate import ruled
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.evaluate import slices, stats
from tunesmith.evaluate.shift import Answered
from tunesmith.evaluate.slices import Cut


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 300)


def rows(wrong: list[int], count: int = 60) -> Answered:
    truths = np.zeros(count, dtype=int)
    answers = truths.copy()
    answers[wrong] = 1
    return Answered("test", truths, answers)


def test_a_slice_that_is_worse_is_told_and_one_that_is_by_chance_is_not() -> None:
    # Of 60 rows 10 are wrong: 8 of them in the first 20, one in each of the other two slices.
    found = rows([*range(8), 20, 40])
    cut = Cut("shop", ["bad", "good", "fine"], np.repeat([0, 1, 2], 20))
    figures, table = slices.measured(ruled.task(), found, cut, 0)
    values = {(one.split, one.subject): one.value for one in figures}
    assert values["test: shop bad", "model"] == pytest.approx(12 / 20)
    assert values["test: shop bad", "difference to the rest"] == pytest.approx(12 / 20 - 38 / 40)
    assert table.columns[:3] == ["shop", "rows", "accuracy"] and table.rows[0][:3] == ["bad", 20, 0.6]
    assert [row[-1] for row in table.rows] == ["yes", "", ""]
    assert table.note.startswith("Worse than the rest beyond chance: bad (")
    low, high = table.rows[0][3:5]
    assert low < 0.6 < high  # type: ignore[operator]
    _, table = slices.measured(ruled.task(), rows([0, 1, 20, 21, 40]), cut, 0)
    assert [row[-1] for row in table.rows] == ["", "", ""]


def test_chance_is_that_of_drawing_rows() -> None:
    # Two of four rows are wrong. Two drawn rows are both wrong in 1 of 6 draws, at least one is in 5 of 6.
    found = rows([0, 1], 4)
    assert slices.by_chance(ruled.task(), found, 2, 0.0, 0) == pytest.approx(1 / 6, abs=0.06)
    assert slices.by_chance(ruled.task(), found, 2, 0.5, 0) == pytest.approx(5 / 6, abs=0.06)


def test_holm_by_hand() -> None:
    # 0.01 <= 0.05 / 3, 0.02 <= 0.05 / 2, 0.04 <= 0.05; but after one that is too large none counts.
    assert slices.holm([0.04, 0.01, 0.02]) == [True, True, True]
    assert slices.holm([0.04, 0.01, 0.03]) == [False, True, False]
    assert slices.holm([]) == []


def test_a_column_of_the_file_is_found_by_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label,shop\na,x,north\nb,y,\nc,x,south\nd,y,north\ne,x,\n")
    held_out = Dataset.from_list([{"text": "x", "line": line} for line in (5, 3, 2, 6)])
    cut = slices.by_column(path, "shop", held_out)
    assert list(cut.names) == ["(empty)", "north"] and cut.numbers.tolist() == [1, 0, 1, 0]
    with pytest.raises(DataError, match="shp"):
        slices.by_column(path, "shp", held_out)


def test_all_columns_that_are_not_there_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label,shop\na,x,north\n")
    slices.look(path, ["shop", "label"])
    with pytest.raises(DataError, match="no column 'shp'") as caught:
        slices.look(path, ["shp", "shop", "town"])
    assert "'shop'" in caught.value.message and "no column 'town'" in caught.value.message
    assert "suite 'task'" in caught.value.hint


def test_small_and_many_values_are_left_out_and_said() -> None:
    values: list[Any] = ["one"] * 3 + ["two"] * 2 + ["alone"]
    with listening() as notes:
        cut = slices.by_values("shop", values)
    assert list(cut.names) == ["one", "two"] and cut.numbers.tolist() == [0, 0, 0, 1, 1, -1]
    assert notes == ["Of 3 values of shop, the 2 with the most rows are measured."]


def test_quarters_keep_equal_numbers_together() -> None:
    cut = slices.by_quarters("length", np.array([4, 1, 2, 3, 1, 1, 1, 1]), " characters")
    assert list(cut.names) == ["1 to 1 characters", "2 to 2 characters", "3 to 4 characters"]
    assert cut.numbers.tolist() == [2, 0, 1, 2, 0, 0, 0, 0]
