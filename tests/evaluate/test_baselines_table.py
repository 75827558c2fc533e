"""Paired differences, their p, and the table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.evaluate import ruled
from tunesmith.evaluate import baselines_table as told
from tunesmith.evaluate.baselines_ground import Ground, Missing, Told

ROWS = ruled.rows(60)
EVERY = np.arange(60)


@pytest.fixture
def ground() -> Ground:
    return Ground(ruled.finished(ROWS, train=lambda: None), "test", 100)


def answers(ground: Ground, wrong: int) -> np.ndarray:
    found = ground.truths("held out").copy()
    found[:wrong] = (found[:wrong] + 1) % 3
    return found


def test_a_difference_is_paired(ground: Ground) -> None:
    same, worse = told.compared(
        ground, [Told("same", EVERY, [answers(ground, 0)]), Told("worse", EVERY, [answers(ground, 15)])]
    )
    assert same.difference.value == 0 and same.difference.span == (0, 0) and same.p == 1
    assert same.model.value == same.own.value == 1
    assert worse.difference.value == pytest.approx(0.25) and worse.own.value == pytest.approx(0.75)
    # The number of 15 wrong rows among 60 that are drawn: binomial, with a deviation of sqrt(1/4 3/4 / 60) = 0.056.
    low, high = worse.difference.span
    assert low == pytest.approx(0.25 - 1.96 * 0.056, abs=0.03) and high == pytest.approx(0.25 + 1.96 * 0.056, abs=0.03)
    assert worse.p == pytest.approx(2 / 1001)


def test_p_counts_the_draws_on_the_other_side() -> None:
    assert told.chance(np.array([1.0, 2, 3, -1, 0, 2, 2, 2, 2, np.nan])) == pytest.approx(2 * 3 / 10)
    assert told.chance(np.zeros(9)) == 1 and math.isnan(told.chance(np.array([np.nan])))


def test_the_score_of_several_answers_is_their_mean(ground: Ground) -> None:
    some = np.arange(0, 60, 2)
    wrong, right = answers(ground, 30)[some], answers(ground, 0)[some]
    (found,) = told.compared(ground, [Told("orders", some, [wrong, right])])
    assert found.own.value == pytest.approx(0.75) and found.spread == pytest.approx(0.25)
    assert found.model.value == 1


def test_the_table_says_all_in_one_place(ground: Ground) -> None:
    several = [
        Told("worse", EVERY, [answers(ground, 15)], 7, 20, "a way"),
        Told("few", EVERY[:10], [answers(ground, 5)[:10], answers(ground, 0)[:10]]),
    ]
    found = told.compared(ground, several)
    table = told.table(ground, found, [Missing("other", "it is so")], {"worse": 1.5}, told.measured(ground))
    assert len({len(row) for row in [table.columns, *table.rows]}) == 1
    model, worse, few, other = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (model["what"], model["accuracy"], model["rows answered"], model["seconds"]) == ("this model", 1, 60, None)
    assert (worse["parameters trained"], worse["training rows used"], worse["seconds"]) == (7, 20, 1.5)
    assert worse["how"] == "a way" and worse["p"] == pytest.approx(2 / 1001)
    assert "on 10 of 60 rows, drawn" in str(few["how"]) and "over 2 orders" in str(few["how"])
    assert other["accuracy"] is None and other["how"] == "not measured: it is so"
    assert "On 60 test rows the model is better than the strongest baseline, worse." in table.note
    verdict = told.verdict(ground, found)
    # Of `few` half of 10 rows are wrong in one order of two: 0.25 as well, and `worse` came first.
    assert verdict is not None and (verdict.word, verdict.value) == ("Worth its training", pytest.approx(0.25))
    assert "worse" in verdict.figure and told.verdict(ground, []) is None
    assert {(one.name, one.subject) for one in told.figures(ground, found)} >= {
        ("accuracy", "worse"), ("model minus this", "worse"), ("p", "few"),
    }  # fmt: skip
