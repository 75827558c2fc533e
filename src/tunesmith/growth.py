"""How long something takes for many rows, from trials with a few of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST = 8
"""Rows of the first trial, which is slower than the others by what comes but once."""
QUARTER = 4
"""How many times more rows the second trial has, or fewer where the first was slow."""
MOST, LEAST = 16, 2
"""How many times more rows than the one before it a later trial may have, and must have to be worth its time."""
LONGER = 1.5
"""How many times the seconds of the first trial a later one may take, where that is more than is allowed."""
CAUTION = 0.1
"""The share of a trial's seconds that its rows are taken to need at least, for no trial to be far too long."""


@dataclass(frozen=True)
class Growth:
    """Seconds as a line over the number of rows, through the two largest trials.

    count, seconds: of the largest trial. a_row: what another row takes. once: what the first trial took longer than any
    other, although it had fewer rows.
    """

    count: int
    seconds: float
    a_row: float
    once: float = 0.0

    def of(self, rows: int) -> float:
        """Seconds for so many rows, the first time."""
        return self.once + self.again(rows)

    def again(self, rows: int) -> float:
        """Seconds for so many rows, any other time."""
        return self.seconds + self.a_row * (rows - self.count)


def grown(act: Callable[[int], object], rows: int, seconds: float) -> Growth:
    """Trials of `act` with more and more rows, up to `rows`, none of which is expected to take much more than
    `seconds`.

    With the largest trials (n_i, t_i): a_row = (t_k - t_(k-1)) / (n_k - n_(k-1)), not below zero. What took all rows
    needs no line.
    """
    count = min(rows, FIRST)
    first = timed(act, count)
    trials = [(count, first)]
    if rows > count:
        trials = sorted([*trials, _second(act, rows, seconds, first)])
    limit = max(seconds, LONGER * first)
    while (count := trials[-1][0]) < rows:
        last = trials[-1][1]
        a_row = max(_slope(trials), CAUTION * last / count)
        following = int(min(rows, MOST * count, count + (limit - last) / a_row))
        if following < min(rows, LEAST * count):
            break
        trials.append((following, timed(act, following)))
    larger = [taken for count, taken in trials if count > FIRST]
    return Growth(*trials[-1], a_row=_slope(trials), once=max(0.0, first - min(larger, default=first)))


def _second(act: Callable[[int], object], rows: int, seconds: float, first: float) -> tuple[int, float]:
    """A trial that tells what is the same for any number of rows."""
    count = min(rows, FIRST * QUARTER) if first <= seconds else FIRST // QUARTER
    return count, timed(act, count)


def timed(act: Callable[..., object], *given: object) -> float:
    """The seconds that a call takes."""
    began = time.perf_counter()
    act(*given)
    return time.perf_counter() - began


def _slope(trials: list[tuple[int, float]]) -> float:
    """Seconds a row, by the last two trials, or by one alone."""
    (before, earlier), (count, later) = [(0, 0.0), *trials][-2:]
    return max(0.0, later - earlier) / max(1, count - before)
