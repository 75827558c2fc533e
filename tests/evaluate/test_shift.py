"""A metric beside itself elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from tunesmith.evaluate import shift
from tunesmith.evaluate.shift import Answered
from tunesmith.tasks.classify import Classify


def task() -> Classify:
    """Three classes."""
    found = Classify()
    found.learn({"label": label} for label in "abc")
    return found


def answered(name: str, rows: int, right: int) -> Answered:
    """Rows of which so many are right."""
    truths = np.arange(rows) % 3
    return Answered(name, truths, np.where(np.arange(rows) < right, truths, (truths + 1) % 3))


def test_the_difference_has_the_interval_of_two_independent_samples() -> None:
    home, there = answered("test", 300, 240), answered("other", 200, 120)
    first, second = (shift.measured(task(), one.truths, one.answers, 0, one.name) for one in (home, there))
    (figure,) = [one for one in second.minus(first).figures("other", "difference") if one.name == "accuracy"]
    half = norm.ppf(0.975) * math.sqrt(0.8 * 0.2 / 300 + 0.6 * 0.4 / 200)
    assert figure.value == pytest.approx(-0.2)
    assert (figure.low, figure.high) == pytest.approx((-0.2 - half, -0.2 + half), abs=0.012)


def test_rows_with_one_seed_and_two_names_are_drawn_apart() -> None:
    one = answered("one", 100, 60)
    first, same, other = (shift.measured(task(), one.truths, one.answers, 0, name) for name in ("a", "a", "b"))
    assert np.array_equal(first.draws["accuracy"], same.draws["accuracy"])
    assert abs(np.corrcoef(first.draws["accuracy"], other.draws["accuracy"])[0, 1]) < 0.15


def test_groups_stand_beside_the_rest_or_beside_a_base() -> None:
    rows = answered("other", 10, 6)
    numbers = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, -1])  # one row is of no group that is shown
    figures, bars = shift.by_group(task(), rows, ["x", "y"], numbers, 0, None)
    found = {(one.split, one.subject): one.value for one in figures}
    assert found == {
        ("other: x", "model"): 1.0,
        ("other: x", "difference to the rest"): pytest.approx(1 - 2 / 6),
        ("other: y", "model"): pytest.approx(2 / 5),
        ("other: y", "difference to the rest"): pytest.approx(2 / 5 - 4 / 5),
    }
    assert bars.labels == ["x (4 rows)", "y (5 rows)"] and bars.series["accuracy"] == [1.0, 0.4]
    home = answered("test", 20, 10)
    base = ("test", shift.measured(task(), home.truths, home.answers, 0, "test"))
    figures, _ = shift.by_group(task(), rows, ["x", "y"], numbers, 0, base)
    found = {(one.split, one.subject): one.value for one in figures}
    assert found["other: x", "difference to test"] == 0.5
