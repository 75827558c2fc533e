"""Negated texts: a direction test of its own."""

from __future__ import annotations

import pytest

from tests.evaluate import ruled
from tunesmith.core.notes import listening
from tunesmith.evaluate import robustness_negation as negation
from tunesmith.evaluate import stats


def test_scores_that_fall_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 20)
    rows = [
        {"text": "I want to cancel", "label": "cancel"},  # I do not want: cancel 2 -> 1, as high as price
        {"text": "the lamp is lovely", "label": "praise"},  # is not lovely: no score of praise falls
        {"text": "how much?", "label": "price"},  # no place for a negation
    ]
    result = negation.measured(ruled.ground(rows), 2)
    found = {(one.name, one.subject): one.value for one in result.figures}
    assert found == {("answers changed", "negation"): 0.0, ("score fell", "negation"): 0.5}
    table = result.panels[0]
    assert [row[0] for row in table.rows] == ["the lamp is lovely", "I want to cancel"]  # type: ignore[union-attr]
    assert table.rows[1][1:4] == ["I do not want to cancel", "cancel", "cancel"]  # type: ignore[union-attr]
    assert "2 of 3 texts could be negated" in table.note  # type: ignore[union-attr]


def test_where_nothing_can_be_negated_it_is_said() -> None:
    with listening() as said:
        result = negation.measured(ruled.ground([{"text": "how much?", "label": "price"}]), 2)
    assert result.figures == [] and "no text of these rows could be negated" in said[0]


def test_only_classes_of_a_single_text() -> None:
    rows = [{"text": "the lamp is here", "score": 1.0}, {"text": "it is", "score": 2.0}]
    assert negation.measured(ruled.ground(rows, lambda row: 1.0, ruled.task("regress")), 2).as_json()["figures"] == []
    pairs = [{"text": "it is here", "pair": "it is", "label": "price"}]
    assert negation.measured(ruled.ground(pairs, part=ruled.task(pair="pair")), 2).figures == []
