"""Figures, tables and a sentence of a sequence, from what was measured of its stages."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith import sequence
from tunesmith.core.panel import Heatmap, Table


def stage(row: dict[str, float], **more: Any) -> dict[str, Any]:
    return {"metric": "accuracy", "higher_is_better": True, "row": row, **more}


THREE = {
    "1-a": stage({"1-a": 0.9}, before=0.2, untrained=0.2),
    "2-b": stage({"1-a": 0.7, "2-b": 0.8}, before=0.35, untrained=0.3, alone=0.7, alone_without=["replay", "ewc"]),
    "3-c": stage({"1-a": 0.5, "2-b": 0.85, "3-c": 0.6}, before=0.35, untrained=0.1, alone=0.9),
}


def cells(panel: Any) -> list[list[Any]]:
    assert isinstance(panel, Table)
    return [list(row) for row in panel.rows]


def test_figures_by_hand() -> None:
    assert sequence.summary(THREE) == {
        "average": pytest.approx((0.5 + 0.85 + 0.6) / 3),
        "backward transfer": pytest.approx((-0.4 + 0.05) / 2),
        "forgetting": pytest.approx((0.4 - 0.05) / 2),
        "forward transfer": pytest.approx((0.05 + 0.25) / 2),
        "intransigence": pytest.approx((-0.1 + 0.3) / 2),
    }


def test_less_is_better_turns_every_sign() -> None:
    less = {"metric": "perplexity", "higher_is_better": False}
    stages = {
        "1-a": {**less, "row": {"1-a": 10.0}, "before": 90.0, "untrained": 90.0},
        "2-b": {**less, "row": {"1-a": 30.0, "2-b": 5.0}, "before": 40.0, "untrained": 50.0, "alone": 4.0},
    }
    found = sequence.summary(stages)
    assert found == {
        "average": -17.5, "backward transfer": -20, "forgetting": 20, "forward transfer": 10, "intransigence": 1,
    }  # fmt: skip
    assert sequence.verdict(stages).startswith("Worse than after its own stage: 1-a (perplexity 10, at the end 30).")


def test_every_task_has_a_line() -> None:
    matrix, each, figures = sequence.panels(THREE)
    assert isinstance(matrix, Heatmap) and matrix.values[2] == [0.5, 0.85, 0.6]
    assert isinstance(each, Table) and list(each.columns)[2:] == ["untrained", "before", "after", "at the end", "alone"]
    assert cells(each) == [
        ["1-a", "accuracy", 0.2, 0.2, 0.9, 0.5, None],
        ["2-b", "accuracy", 0.3, 0.35, 0.8, 0.85, 0.7],
        ["3-c", "accuracy", 0.1, 0.35, 0.6, 0.6, 0.9],
    ]
    assert "2-b without replay and ewc" in each.note
    assert [row[0] for row in cells(figures)] == list(sequence.MEANING)


def test_without_references_there_are_no_columns_for_them() -> None:
    stages = {name: {key: one[key] for key in ("metric", "higher_is_better", "row")} for name, one in THREE.items()}
    each, figures = sequence.tables(stages)
    assert isinstance(each, Table) and "alone" not in each.columns and "Alone" not in each.note
    assert [row[0] for row in cells(figures)] == ["average", "backward transfer", "forgetting"]


def test_a_mean_over_different_metrics_is_not_shown() -> None:
    fill = {"1-a": stage({"1-a": 30.0}, before=90.0, untrained=90.0, metric="perplexity", higher_is_better=False)}
    stages = {**fill, "2-b": stage({"1-a": 40.0, "2-b": 0.8}, before=0.35, untrained=0.3)}
    figures = sequence.tables(stages)[1]
    assert [row[:3] for row in cells(figures)] == [
        ["backward transfer", -10, "perplexity"],
        ["forgetting", 10, "perplexity"],
        ["forward transfer", pytest.approx(0.05), "accuracy"],
    ]
    assert isinstance(figures, Table) and "Not shown: average" in figures.note


def test_a_last_stage_without_a_test_split_still_forgets() -> None:
    why = {"2-b": "it has no test split."}
    stages = {"1-a": stage({"1-a": 0.9}), "2-b": stage({"1-a": 0.6}, unmeasured=why)}
    assert sequence.summary(stages) == {
        "average": 0.6, "backward transfer": pytest.approx(-0.3), "forgetting": pytest.approx(0.3),
    }  # fmt: skip
    matrix, each, _, missing = sequence.panels(stages)
    assert isinstance(matrix, Heatmap) and matrix.values == [[0.9], [0.6]]
    assert cells(each) == [["1-a", "accuracy", None, None, 0.9, 0.6]]
    assert cells(missing) == [["2-b", "2-b", "it has no test split."]]


def test_nothing_measured_is_said() -> None:
    stages = {"1-a": stage({}), "2-b": stage({}, unmeasured={"2-b": "it has no test split."})}
    assert sequence.summary(stages) == {} == sequence.summary({})
    shown = sequence.panels(stages)
    assert [panel.title for panel in shown] == ["No stage has a test split", "Not measured"]
    assert sequence.verdict(stages) == "No earlier task was measured again after the last stage."


def test_the_sentence_names_what_got_worse() -> None:
    assert sequence.verdict(THREE) == (
        "Worse than after its own stage: 1-a (accuracy 0.900, at the end 0.500). What holds on to it: "
        "tunesmith explain replay."
    )
    both = {**THREE, "3-c": stage({"1-a": 0.5, "2-b": 0.7, "3-c": 0.6})}
    assert sequence.verdict(both).startswith("Worse than after their own stages: 1-a (") and "and 2-b (" in (
        sequence.verdict(both)
    )
    kept = {**THREE, "3-c": stage({"1-a": 0.9, "2-b": 0.80001, "3-c": 0.6})}
    assert sequence.verdict(kept) == "No earlier task is worse than it was after its own stage."
