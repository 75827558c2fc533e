"""Trials of changes: the area under a curve, and rows without an answer."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from tests.evaluate import ruled
from tunesmith.evaluate import robustness_measure as measure


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(measure).failed == 0


def test_the_area_by_hand() -> None:
    # 0.1 (1 + 0.8) / 2 + 0.2 (0.8 + 0.5) / 2 = 0.09 + 0.13, over 0.3.
    assert measure.area([0.1, 0.3], [0.8, 0.5], 1.0) == pytest.approx(0.22 / 0.3)
    assert measure.area([0.5], [1.0], 1.0) == 1.0


def test_a_trial_knows_what_it_changed() -> None:
    ground = ruled.ground(ruled.rows(6))
    found = measure.trial(ground, "upper", 1.0)
    assert found.touched == list(range(6)) and found.answers.tolist() == [2] * 6
    assert found.changed.tolist() == [1, 1, 0, 1, 1, 0]
    none = measure.trial(ground, "upper", 1e-9)
    assert none.touched == [] and not none.changed.any()


def test_a_metric_that_is_undefined_is_left_out() -> None:
    rows = [{"text": f"lamp {n}", "score": 1.0 + (n == 0)} for n in range(4)]
    ground = ruled.ground(rows, lambda row: 3.0, ruled.task("regress"))
    result = measure.measured(ground, measure.trials(ground, ["upper"], [1.0]), 1)
    # Of answers that are all alike there is no correlation.
    assert {one.name for one in result.figures} == {"answers changed"}
    assert np.isnan(ground.main(ground.truths, ground.answers))
