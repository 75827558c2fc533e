"""A user's checks, asked of a model that answers by a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.evaluate import ruled
from tunesmith.core.errors import RecipeError
from tunesmith.core.panel import Result
from tunesmith.evaluate import robustness_checked as checked
from tunesmith.evaluate import robustness_checks

TEXT = """\
slots: {verb: [cancel, drop]}
checks:
  - {name: cancelling, kind: minimum, texts: ["please {verb} it", "{verb} it"], answer: cancel}
  - {name: please, kind: invariance, texts: ["{verb} it", "please {verb} it", "lovely, {verb} it"]}
  - {name: praise, kind: direction, texts: [a lamp, a lovely lamp], of: praise, goes: up, by: 0.3}
  - {name: much praise, kind: direction, texts: [a lamp, a lovely lamp], of: praise, goes: up, by: 0.6}
  - {name: less praise, kind: direction, texts: [a lovely lamp, a lovely chair], of: praise, goes: down}
"""


def measured(folder: Path, text: str, ground: Any) -> Result:
    path = folder / "checks.yaml"
    path.write_text(text, encoding="utf-8")
    return checked.measured(ground, robustness_checks.read(path), 2)


def test_failures_by_hand(tmp_path: Path) -> None:
    result = measured(tmp_path, TEXT, ruled.ground(ruled.rows(3)))
    # softmax(0, 0, 1) gives praise 0.21, softmax(0, 2, 1) 0.67: 0.45 more.
    assert {one.subject: one.value for one in result.figures} == {
        "cancelling": 0.5,  # "drop" is read as a price
        "please": 0.5,  # "lovely, drop it" is praise; of "cancel" and "lovely" the first class wins
        "praise": 0.0,
        "much praise": 1.0,
        "less praise": 1.0,  # a score that stays goes neither up nor down
    }
    table, failed = result.panels
    assert table.rows[0] == ["cancelling", "minimum", 4, 2, 0.5]  # type: ignore[union-attr]
    assert table.rows[1] == ["please", "invariance", 2, 1, 0.5]  # type: ignore[union-attr]
    rows = failed.rows  # type: ignore[union-attr]
    assert rows[0] == ["cancelling", "please drop it", "price", "the answer cancel"]
    assert rows[2][1:] == ["drop it → please drop it → lovely, drop it", "price → price → praise", "the same answer"]
    assert rows[3][2:] == ["0.2119 → 0.6652", "the score of praise goes up, by 0.6"]


def test_numbers(tmp_path: Path) -> None:
    text = """\
checks:
  - {name: four, kind: minimum, texts: [four, nine], answer: 4}
  - {name: longer, kind: direction, texts: [a, bb, ccc], goes: up}
"""
    rows = [{"text": "a", "score": 0.0}, {"text": "b", "score": 10.0}]
    result = measured(tmp_path, text, ruled.ground(rows, lambda row: float(len(row["text"])), ruled.task("regress")))
    assert {one.subject: one.value for one in result.figures} == {"four": 0.0, "longer": 0.0}
    fallen = measured(tmp_path, text, ruled.ground(rows, lambda row: -float(len(row["text"])), ruled.task("regress")))
    assert {one.subject: one.value for one in fallen.figures} == {"four": 1.0, "longer": 1.0}


def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"line 3, checks\.0\.answer: No class of this model is called 'cancle'"):
        measured(tmp_path, TEXT.replace("answer: cancel", "answer: cancle"), ruled.ground(ruled.rows(3)))
