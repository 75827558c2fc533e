"""How long something takes for many rows, from trials with a few of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST = 32
"""Rows of the first trial."""
MOST = 16
"""How many times more rows than the one before it a trial may have."""
LEAST = 1.5
"""How many times more rows a trial must have to be worth its time."""
CAUTION = 0.1
"""The share of a trial's seconds that its rows are taken to need at least, for no trial to be far too long."""


@dataclass(frozen=True)
class Growth:
    """Seconds as a line over the number of rows, through the two largest trials.

    count, seconds: of the largest trial. a_row: what another row takes. once: what the first trial took longer than the
    line says, which comes but once.
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
    """Trials of `act` with more and more rows, up to `rows`, none of which is expected to take more than `seconds`.

    With trials (n_i, t_i): a_row = (t_k - t_(k-1)) / (n_k - n_(k-1)), not below zero. What took all rows needs no line.
    """
    count = min(rows, FIRST)
    trials = [(count, timed(act, count))]
    while count < rows:
        _, last = trials[-1]
        a_row = max(_slope(trials), CAUTION * last / count)
        following = int(min(rows, MOST * count, count + (seconds - last) / a_row))
        if following < min(rows, LEAST * count):
            break
        count = following
        trials.append((count, timed(act, count)))
    line = Growth(*trials[-1], a_row=_slope(trials))
    once = max(0.0, trials[0][1] - line.again(trials[0][0])) if len(trials) > 1 else 0.0
    return Growth(line.count, line.seconds, line.a_row, once)


def timed(act: Callable[..., object], *given: object) -> float:
    """The seconds that a call takes."""
    began = time.perf_counter()
    act(*given)
    return time.perf_counter() - began


def _slope(trials: list[tuple[int, float]]) -> float:
    """Seconds a row, by the last two trials, or by one alone."""
    (before, earlier), (count, later) = [(0, 0.0), *trials][-2:]
    return max(0.0, later - earlier) / max(1, count - before)
