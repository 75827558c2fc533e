"""A metric on other rows beside the same metric on a split of the run, with an interval of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.core.panel import Bars, Figure
from tunesmith.core.part import Task
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats

GROUPS = 30
"""Most groups that are shown, those with the most rows."""


@dataclass(frozen=True)
class Measured:
    """Metrics of some rows, and their draws [draws] of a bootstrap; both by name."""

    values: dict[str, float]
    draws: dict[str, np.ndarray]

    def only(self, name: str) -> Measured:
        """One of the metrics alone."""
        return Measured({name: self.values[name]}, {name: self.draws[name]})

    def figures(self, split: str, subject: str = "model") -> list[Figure]:
        """The metrics with their intervals."""
        return stats.figures(
            self.values, {name: stats.interval(some) for name, some in self.draws.items()}, split, subject
        )

    def minus(self, other: Measured) -> Measured:
        """The differences to other rows, which were drawn on their own."""
        return Measured(
            {name: value - other.values[name] for name, value in self.values.items()},
            {name: some - other.draws[name] for name, some in self.draws.items()},
        )


def measured(task: Task, truths: np.ndarray, answers: np.ndarray, seed: int, name: str) -> Measured:
    """The task's metrics of rows. name: of these rows; rows of other names are drawn independently."""
    draws = stats.resampled(
        lambda places: task.metrics(truths[places], answers[places]), seed_of(seed, f"bootstrap {name}"), len(truths)
    )
    return Measured(task.metrics(truths, answers), draws)


@dataclass(frozen=True)
class Answered:
    """Rows of one kind and what the model answered them; truths and answers [rows, …]. name: what they are called."""

    name: str
    truths: np.ndarray
    answers: np.ndarray

    def at(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Truths and answers of the rows for which `chosen` [rows] is true."""
        return self.truths[chosen], self.answers[chosen]


def by_group(
    task: Task, rows: Answered, groups: Sequence[str], numbers: np.ndarray, seed: int, base: tuple[str, Measured] | None
) -> tuple[list[Figure], Bars]:
    """The main metric of every group of rows, beside its difference to `base` (a name, and what was measured there),
    or where that is None to the other rows. groups: names; numbers: each row's place among them [rows].
    """
    figures, values, labels = [], [], []
    for number, group in enumerate(groups):
        chosen, name = numbers == number, f"{rows.name}: {group}"
        own = measured(task, *rows.at(chosen), seed, name).only(task.metric)
        to, other = base or ("the rest", measured(task, *rows.at(~chosen), seed, f"{name}, the rest"))
        figures += own.figures(name) + own.minus(other).figures(name, f"difference to {to}")
        values.append(own.values[task.metric])
        labels.append(f"{group} ({int(chosen.sum()):,} rows)")
    return figures, Bars(f"Groups of {rows.name}", labels, {task.metric: values}, y=task.metric)
