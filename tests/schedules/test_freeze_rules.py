"""When lower blocks stop: both rules by hand."""

import pytest
import torch

from tunesmith.schedules.freeze_rules import added, changes, settled, stops


def test_stops_by_hand() -> None:
    assert stops(3, 0.5, cubed=False) == [0.5, 0.75, 1.0]
    assert stops(3, 0.8, cubed=True) == pytest.approx([0.512, 0.729, 1.0])
    assert stops(1, 0.5, cubed=False) == [0.5]


def test_settled_by_hand() -> None:
    assert changes([4.0, 2.0, 0.0], [3.0, 4.0, 1.0]) == [0.25, 1.0, 0.0]
    # The median of these is 0.3: the two below it at the bottom have settled, a later one has not.
    assert settled([0.1, 0.2, 0.4, 0.3, 0.5], 50) == 2
    assert settled([0.4, 0.1, 0.2], 50) == 0
    assert settled([], 50) == 0


def test_gradients_of_rows_add_up_row_by_row() -> None:
    first, second = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 1.0], [5.0, 6.0]])
    total = added(None, first)
    assert total is not first and torch.equal(total, first)
    assert added(total, second).tolist() == [[4.0, -1.0], [5.0, 6.0]]
    assert added(total, first) is total and total.tolist() == [[2.0, -4.0]]
