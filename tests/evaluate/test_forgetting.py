"""Average, backward and forward transfer, forgetting and intransigence, by hand."""

from math import isnan, nan

import pytest

from tunesmith.evaluate.forgetting import average, backward, forgetting, forward, intransigence

MATRIX = [[0.9], [0.7, 0.8], [0.5, 0.85, 0.6]]


def test_by_hand() -> None:
    assert average(MATRIX) == pytest.approx((0.5 + 0.85 + 0.6) / 3)
    assert backward(MATRIX) == pytest.approx(((0.5 - 0.9) + (0.85 - 0.8)) / 2)
    assert forgetting(MATRIX) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.85)) / 2)


def test_the_best_of_all_rows_counts_as_what_was_known() -> None:
    assert forgetting([[0.5], [0.9, 0.8], [0.6, 0.8, 0.7]]) == pytest.approx(((0.9 - 0.6) + 0.0) / 2)


def test_a_training_that_changes_nothing() -> None:
    same = [[0.4], [0.4, 0.6], [0.4, 0.6, 0.5]]
    assert backward(same) == forgetting(same) == 0
    assert forward([0.3, 0.2], [0.3, 0.2]) == intransigence([0.6, 0.5], [0.6, 0.5]) == 0


def test_a_single_task() -> None:
    assert average([[0.7]]) == 0.7 and backward([[0.7]]) == forgetting([[0.7]]) == 0


def test_references_by_hand() -> None:
    # Second and third task: 0.35 before their own stages, where an untrained model has 0.3 and 0.1.
    assert forward([0.35, 0.35], [0.3, 0.1]) == pytest.approx((0.05 + 0.25) / 2)
    # After their own stages 0.8 and 0.6, alone 0.7 and 0.9: the first was helped by 0.1, the other hindered by 0.3.
    assert intransigence([0.8, 0.6], [0.7, 0.9]) == pytest.approx((-0.1 + 0.3) / 2)


def test_what_was_not_measured_is_in_no_mean() -> None:
    # The second task never was; the first was not measured after the second's stage.
    holes = [[0.9], [nan, nan], [0.5, nan, 0.6]]
    assert average(holes) == pytest.approx(0.55)
    assert backward(holes) == forgetting([[0.9], [0.5, nan], [0.5, nan, 0.6]]) * -1 == pytest.approx(-0.4)
    assert forgetting(holes) == pytest.approx(0.4)
    assert forward([0.4, nan], [0.3, 0.1]) == pytest.approx(0.1)
    assert isnan(intransigence([0.8], [nan])) and isnan(forward([], [])) and isnan(average([[nan]]))
