"""What the model sees of the training split."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from tests import toy
from tunesmith import examples
from tunesmith.core.panel import Bars, Marked, Table


@pytest.mark.parametrize(("most", "lines"), [(100, list(range(2, 13))), (6, [2, 4, 6, 8, 10, 12]), (1, [2])])
def test_a_sample_is_spread_over_all_rows(most: int, lines: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "SAMPLED", most)
    found = examples.sample(toy.prepared({}, count=11))
    assert [row["line"] for row in found.rows] == lines
    assert found.sizes.tolist() == [len(row["text"]) + 2 for row in found.rows]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3.0, "3"),
        (2.25, "2.25"),
        (["O", "B-oak"], "O, B-oak"),
        ([], "none"),
        ([{"start": 4, "text": "oak"}, {"start": None, "text": "elm"}], "'oak' at 4, 'elm'"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_captions_are_short_and_plain(value: Any, told: str) -> None:
    assert examples._value(value) == told


def test_lengths_are_counted_in_tokens_and_cuts_are_shown() -> None:
    rows = Dataset.from_list([{"text": "x" * n, "label": "ab"[n % 2], "line": n} for n in (3, 3, 5, 200)])
    panels: list[Any] = examples.sample(toy.prepared({}, rows=rows)).panels()
    seen, bars, cuts = panels
    assert isinstance(seen, Marked) and isinstance(bars, Bars) and isinstance(cuts, Table)
    assert seen.captions == ["line 3, label = b", "line 3, label = b", "line 5, label = b"]
    assert seen.examples[0][0].tokens == ["<s>", "x", "x", "x", "</s>"] and not any(seen.examples[0][0].loss)
    assert seen.note.endswith("The loss is that of the whole example.")
    assert sum(bars.series["examples"]) == 4 and bars.series["examples"][0] == 3
    assert (bars.labels[0], bars.labels[-1], len(bars.labels)) == ("5 to 13", "122 to 130", 14)
    assert bars.note == "4 sampled training examples; 1 of them are longer than the limit and are cut."
    assert cuts.rows[0][0] == "line 200" and cuts.note == "1 of 4 sampled examples are cut."
