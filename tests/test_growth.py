"""Seconds for many rows from trials with a few."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith import growth
from tunesmith.growth import Growth, grown, timed


class Clock:
    """A clock that stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counts: list[int] = []

    def perf_counter(self) -> float:
        return self.now

    def act(self, seconds: Callable[[int], float]) -> Callable[[int], None]:
        """Something that takes so many seconds for a number of rows."""

        def taken(count: int) -> None:
            self.counts.append(count)
            self.now += seconds(count)

        return taken


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(growth, "time", found)
    return found


@pytest.mark.parametrize("rows", [0, 1, 8, 9, 33, 500, 10**6])
@pytest.mark.parametrize("constant, a_row", [(1.0, 0.01), (0.0, 0.5), (3.0, 0.0), (0.25, 0.0001), (30.0, 2.0)])
def test_a_line_is_found(rows: int, constant: float, a_row: float, clock: Clock) -> None:
    found = grown(clock.act(lambda count: constant + a_row * count), rows, seconds=4.0)
    assert found.of(rows) == found.again(rows) == pytest.approx(constant + a_row * rows)


@pytest.mark.parametrize(
    "constant, a_row, longest",
    [
        (0.0, 0.001, 4.0),
        (0.0, 0.02, 4.0),
        # The first trial takes 1.6 s, the second four times that.
        (0.0, 0.2, 6.4),
        # The first takes 46 s, the second has fewer rows; half more than the first is allowed.
        (30.0, 2.0, 69.0),
    ],
)
def test_no_trial_takes_much_longer_than_allowed(constant: float, a_row: float, longest: float, clock: Clock) -> None:
    grown(clock.act(lambda count: constant + a_row * count), 10**6, seconds=4.0)
    assert constant + max(clock.counts) * a_row <= longest + 1e-9
    assert len(clock.counts) == len(set(clock.counts)) and clock.counts[0] == growth.FIRST


def test_what_comes_but_once_is_not_multiplied(clock: Clock) -> None:
    def first_is_slow(count: int) -> float:
        return 1.0 + 0.01 * count + (0.5 if not clock.now else 0.0)

    found = grown(clock.act(first_is_slow), 10_000, seconds=2.0)
    # The second trial has 24 rows more: so much of the half second goes unseen.
    assert found.once == pytest.approx(0.5 - 0.24)
    assert found.again(10_000) == pytest.approx(101.0) and found.of(10_000) == pytest.approx(101.26)


def test_a_line_never_falls(clock: Clock) -> None:
    found = grown(clock.act(lambda count: 1.0 if count > growth.FIRST else 2.0), 10**6, seconds=4.0)
    assert found.a_row == 0.0 and found.again(10**6) == 1.0 and found.once == 1.0


def test_a_growth_by_hand() -> None:
    line = Growth(count=100, seconds=3.0, a_row=0.02, once=0.5)
    assert line.again(50) == 2.0 and line.of(200) == 5.5


def test_calls_are_timed_with_what_they_are_given(clock: Clock) -> None:
    assert timed(clock.act(lambda count: count * 2.0), 3) == 6.0
