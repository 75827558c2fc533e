"""Contrast pairs: right where both are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate import ruled
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Table
from tunesmith.evaluate import robustness_contrast as contrast
from tunesmith.evaluate import stats

LINES = [
    "text,label",
    "please cancel it,cancel",
    "how lovely it is,praise",
    "I withdraw it,cancel",  # answered as a price
    "how much is it,price",
    "you can keep it,cancel",  # answered as a price
    "this is great,praise",  # answered as a price
    "a lovely chair,praise",
    "a lovely lamp,praise",  # the same label
]


def test_consistency_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 20)
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join([*LINES, ""]), encoding="utf-8")
    with listening() as said:
        result = contrast.measured(ruled.ground(ruled.rows(6)), path, 1)
    assert {one.name: one.value for one in result.figures} == {"both right": 0.5, "right": 5 / 8}
    assert any("1 of 4 contrast pairs" in text and "same label twice" in text for text in said)
    (table,) = result.panels
    assert isinstance(table, Table)
    assert table.rows[0] == ["I withdraw it", "cancel", "price"] and len(table.rows) == 4


def test_an_odd_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join([*LINES[:-1], ""]), encoding="utf-8")
    with pytest.raises(DataError, match="has 7 rows: one has no other"):
        contrast.measured(ruled.ground(ruled.rows(6)), path, 1)
