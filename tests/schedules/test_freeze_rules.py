"""When lower blocks stop: both rules by hand."""

import pytest

from tunesmith.schedules.freeze_rules import changes, settled, stops


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
