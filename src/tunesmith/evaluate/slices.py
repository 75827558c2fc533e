"""Parts of a split, each beside the rest: by a column of its file, by class, by length, by confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunesmith.core.column import Column
from tunesmith.core.errors import DataError
from tunesmith.core.notes import note
from tunesmith.core.panel import Cell, Figure, Table
from tunesmith.core.part import Task
from tunesmith.core.rows import Rows, each
from tunesmith.core.seeding import seed_of
from tunesmith.data.read import glance, read
from tunesmith.evaluate import shift, stats
from tunesmith.evaluate.shift import GROUPS, Answered

EMPTY = "(empty)"
LEAST = 2
"""Fewest rows of a slice that is measured."""
SURE = 1 - stats.CONFIDENCE


@dataclass(frozen=True)
class Cut:
    """A split cut into slices. by: after what; names: of the slices; numbers: each row's place among them [rows], -1
    for none.
    """

    by: str
    names: Sequence[str]
    numbers: np.ndarray


def look(path: Path, columns: Sequence[str]) -> None:
    """Raise DataError with every one of these columns that a file lacks."""
    try:
        glance(path, [Column(f"slice {name}", name, (), _named, optional=True) for name in columns])
    except DataError as error:
        hint = "`slices` of the suite 'task' names columns of the file that the test (or validation) rows come from."
        raise DataError(error.message, hint=hint) from None


def by_column(path: Path, column: str, rows: Rows) -> Cut:
    """By the values of a column of the split's file, found by the rows' lines; a file without it raises DataError."""
    found = read(path, [Column("slice", column, (), _named, optional=True)]).rows
    values = {row["line"]: row["slice"] for row in each(found)}
    if any(row["line"] not in values for row in each(rows)):
        raise DataError(f"{path} has no such rows any more.")
    return by_values(column, [values[row["line"]] for row in each(rows)])


def by_values(by: str, values: Sequence[str]) -> Cut:
    """By a text of every row; the GROUPS largest, in the order of the texts; those left out are said."""
    names, numbers, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    shown = np.sort(np.argsort(-counts, kind="stable")[:GROUPS])
    shown = shown[counts[shown] >= LEAST]
    if len(shown) < len(names):
        note(f"Of {len(names):,} values of {by}, the {len(shown)} with the most rows are measured.")
    places = np.full(len(names), -1)
    places[shown] = np.arange(len(shown))
    return Cut(by, [str(names[place]) for place in shown], places[numbers])


def by_quarters(by: str, values: np.ndarray, unit: str) -> Cut:
    """By quarters of a number of every row [rows], the lowest first; equal numbers stay together."""
    quarters = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)  # [rows]
    _, numbers = np.unique(quarters, return_inverse=True)
    spans = [(values[numbers == one].min(), values[numbers == one].max()) for one in range(numbers.max() + 1)]
    return Cut(by, [f"{low:,.4g} to {high:,.4g}{unit}" for low, high in spans], numbers)


def measured(task: Task, rows: Answered, cut: Cut, seed: int) -> tuple[list[Figure], Table]:
    """The main metric of every slice with its interval, its difference to the rest, and whether that is worse than
    chance explains.

    p of a slice of k rows: how often k rows drawn from the whole split have a metric as bad, (1 + that many) / (1 +
    draws), after Holm for as many slices as the cut has ("A Simple Sequentially Rejective Multiple Test Procedure",
    1979).
    """
    metric, figures, chances = task.metric, [], []
    cells: list[list[Cell]] = []
    for number, name in enumerate(cut.names):
        chosen, split = cut.numbers == number, f"{rows.name}: {cut.by} {name}"
        own = shift.measured(task, *rows.at(chosen), seed, split).only(metric)
        rest = shift.measured(task, *rows.at(~chosen), seed, f"{split}, the rest").only(metric)
        figures += own.figures(split) + own.minus(rest).figures(split, "difference to the rest")
        low, high = stats.interval(own.draws[metric])
        difference = own.minus(rest).values[metric]
        cells.append([name, int(chosen.sum()), own.values[metric], low, high, difference])
        chances.append(by_chance(task, rows, int(chosen.sum()), own.values[metric], seed_of(seed, split)))
    worse = holm(chances)
    table = [[*cell, "yes" if bad else ""] for cell, bad in zip(cells, worse, strict=True)]
    named = [name for name, bad in zip(cut.names, worse, strict=True) if bad]
    told = (
        f"Worse than the rest beyond chance: {', '.join(named) or 'none'} (permutations of rows, {len(worse)} slices)."
    )
    columns = [cut.by, "rows", metric, "from", "to", "less the rest", "worse beyond chance"]
    return figures, Table(f"{metric} on {rows.name} by {cut.by}", columns, table, told)


def by_chance(task: Task, rows: Answered, count: int, value: float, seed: int) -> float:
    """How often so many rows, drawn from the split without replacement, have a metric as bad as `value`."""
    draw, sign = np.random.default_rng(seed), 1.0 if task.higher_is_better else -1.0
    bad = 0
    for _ in range(stats.RESAMPLES):
        places = draw.permutation(len(rows.truths))[:count]
        drawn = task.metrics(rows.truths[places], rows.answers[places])[task.metric]
        # An undefined one (a correlation of equal numbers) speaks for chance.
        bad += not sign * drawn > sign * value
    return (1 + bad) / (1 + stats.RESAMPLES)


def holm(chances: Sequence[float]) -> list[bool]:
    """Which of several p are small enough at 5 % for all of them together: the k-th smallest of m is compared with
    0.05 / (m - k + 1), until one is larger.
    """
    found = [False] * len(chances)
    for rank, place in enumerate(np.argsort(chances, kind="stable").tolist()):
        if chances[place] > SURE / (len(chances) - rank):
            break
        found[place] = True
    return found


def _named(value: object) -> str:
    told = "" if value is None else str(value).strip()
    return told or EMPTY
