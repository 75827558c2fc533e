"""Average, backward and forward transfer and forgetting, by hand."""

import pytest

from tunesmith.evaluate.forgetting import average, backward, forgetting

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


def test_a_single_task() -> None:
    assert average([[0.7]]) == 0.7 and backward([[0.7]]) == forgetting([[0.7]]) == 0
