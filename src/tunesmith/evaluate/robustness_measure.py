"""What changes of texts do to a model's answers: its metric after each of them, beside the metric on the same rows as
they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy as np

from tunesmith.core.column import Row
from tunesmith.core.finished import Finished
from tunesmith.core.panel import Cell, Figure, Lines, Panel, Result, Table
from tunesmith.core.rows import Rows, each, take
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats, verdicts
from tunesmith.evaluate.robustness_answers import Judge, cut, spread
from tunesmith.evaluate.robustness_changes import CHANGES
from tunesmith.evaluate.robustness_rows import Changed, Layout, change_row, changed_places
from tunesmith.evaluate.verdicts import Estimate

PLAIN = "unchanged"


@dataclass(frozen=True)
class Ground:
    """What is measured on: `places` of the held-out rows, with the right answers and the model's [places, …]."""

    finished: Finished
    laid: Layout
    judge: Judge
    split: str
    places: list[int]
    truths: np.ndarray
    answers: np.ndarray

    @property
    def rows(self) -> Rows:
        """All rows of the split."""
        return self.finished.splits[self.split]

    def main(self, truths: np.ndarray, answers: np.ndarray) -> float:
        """The task's main metric."""
        return self.judge.task.metrics(truths, answers)[self.judge.task.metric]

    def spans(self, metrics: stats.Metrics) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals of figures; `metrics` gets the truths of drawn rows, and their numbers in `places`."""
        numbers = np.arange(len(self.places))
        return stats.bootstrap(metrics, self.truths, numbers, seed_of(self.finished.seed, "bootstrap"))


@dataclass(frozen=True)
class Trial:
    """The answers after a change. touched: the rows that it changed, by their numbers in the ground's places. changed
    [places]: 1 where the answer is another one, 0 where not, NaN where none was given.
    """

    change: str
    strength: float
    touched: list[int]
    answers: np.ndarray
    changed: np.ndarray

    @property
    def name(self) -> str:
        """The change, with its strength where it has one."""
        return self.change if CHANGES[self.change].whole else f"{self.change} {self.strength:g}"


def ground(finished: Finished, laid: Layout, split: str, most: int, tolerance: float) -> Ground:
    """At most so many rows of the split, drawn by the run's seed. tolerance: in standard deviations of the truths,
    where they are numbers.
    """
    rows = finished.splits[split]
    draw = Random(seed_of(finished.seed, "robustness"))
    places = sorted(draw.sample(range(len(rows)), min(most, len(rows))))
    truths = finished.task.truths(each(Changed(rows, places, lambda row, place: row)))
    judge = Judge(finished.task, tolerance * spread(truths))
    return Ground(finished, laid, judge, split, places, truths, finished.predict(split).answers[places])


def changing(ground: Ground, name: str, strength: float) -> Callable[[Row, int], Row]:
    """A change as a function of a row and its place."""
    seed = seed_of(ground.finished.seed, f"robustness {name}")
    return lambda row, place: change_row(row, ground.laid, name, strength, f"{seed} {place}")


def trial(ground: Ground, name: str, strength: float) -> Trial:
    """Ask the model again where a change changes something; other rows keep their answers."""
    change = changing(ground, name, strength)
    places = changed_places(ground.rows, ground.places, change)
    number = {place: position for position, place in enumerate(ground.places)}
    touched = [number[place] for place in places]
    answers = ground.answers.copy()
    if touched:
        answers[touched] = ground.finished.now.predict(Changed(ground.rows, places, change)).answers
    other = (~ground.judge.same(ground.answers, answers)).astype(float)
    other[~(ground.judge.given(ground.answers) & ground.judge.given(answers))] = np.nan
    return Trial(name, strength, touched, answers, other)


def trials(ground: Ground, names: Sequence[str], strengths: Sequence[float]) -> list[Trial]:
    """Every change at every strength; those without strengths once."""
    return [
        trial(ground, name, strength)
        for name in names
        for strength in ([1.0] if CHANGES[name].whole else sorted(strengths))
    ]


def area(strengths: Sequence[float], values: Sequence[float], plain: float) -> float:
    """The area under a metric over the strength, from 0, where it is `plain`, to the largest strength (trapezoid rule),
    divided by that strength: the mean metric.

    >>> area([0.5, 1.0], [0.8, 0.4], 1.0)
    0.75
    """
    return float(np.trapezoid([plain, *values], [0.0, *strengths])) / strengths[-1]


def measured(ground: Ground, tried: Sequence[Trial], examples: int) -> Result:
    """The figures of all trials that changed something, the metric over the strength, and examples."""
    acting = {one.change for one in tried if one.touched}
    told = [one for one in tried if one.change in acting]
    metric = ground.judge.task.metric

    def metrics(truths: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
        return _of_draw(ground, told, truths, drawn)

    values = metrics(ground.truths, np.arange(len(ground.places)))
    spans = ground.spans(metrics)
    names = {
        "metric": metric,
        "less": "difference",
        "changed": "answers changed",
        "mean": f"mean {metric}",
        "lost": "share lost",
    }
    figures = []
    for key, value in values.items():
        kind, _, subject = key.partition(" ")
        if math.isfinite(value):
            low, high = (bound if math.isfinite(bound) else None for bound in spans[key])
            figures.append(Figure(names[kind], value, ground.split, subject, low, high))
    panels = [_curves(ground, told, values), _table(ground, tried, values), _examples(ground, told, examples)]
    result = Result(figures, [panel for panel in panels if panel is not None])
    if "lost model" in values:
        result.verdicts.append(verdicts.robust(metric, Estimate(values["lost model"], *spans["lost model"])))
    return result


def _of_draw(ground: Ground, told: Sequence[Trial], truths: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """Every figure on drawn rows, by its kind and subject."""
    plain = ground.main(truths, ground.answers[drawn])
    found = {f"metric {PLAIN}": plain}
    for one in told:
        changed = one.changed[drawn]
        changed = changed[~np.isnan(changed)]
        found[f"metric {one.name}"] = value = ground.main(truths, one.answers[drawn])
        found[f"less {one.name}"] = value - plain
        found[f"changed {one.name}"] = float(changed.mean()) if len(changed) else math.nan
    means = [_mean(own, found) for own in _by_change(told).values()]
    if not means:
        return found
    mean = np.array(means).mean(keepdims=True)
    lost = verdicts.share_lost(np.array([plain]), mean, ground.judge.task.higher_is_better)
    return {**found, "mean model": float(mean[0]), "lost model": float(lost[0])}


def _mean(own: Sequence[Trial], values: dict[str, float]) -> float:
    """The mean metric of a change's trials over their strengths."""
    after = [values[f"metric {one.name}"] for one in own]
    if CHANGES[own[0].change].whole:
        return after[0]
    return area([one.strength for one in own], after, values[f"metric {PLAIN}"])


def _by_change(tried: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials of each change, the weakest first."""
    found: dict[str, list[Trial]] = {}
    for one in tried:
        found.setdefault(one.change, []).append(one)
    return found


def _curves(ground: Ground, told: Sequence[Trial], values: dict[str, float]) -> Panel | None:
    series = {}
    for name, own in _by_change(told).items():
        if CHANGES[name].whole:
            continue
        after = [values[f"metric {one.name}"] for one in own]
        series[name] = ([0.0, *(one.strength for one in own)], [values[f"metric {PLAIN}"], *after])
    metric = ground.judge.task.metric
    return Lines(f"{metric} by the share of places changed", series, x="share", y=metric) if series else None


def _table(ground: Ground, tried: Sequence[Trial], values: dict[str, float]) -> Panel:
    metric, sign = ground.judge.task.metric, 1 if ground.judge.task.higher_is_better else -1
    rows: list[tuple[float, list[Cell]]] = []
    for name, own in _by_change(tried).items():
        strongest = own[-1]
        after = [values.get(f"{kind} {strongest.name}") for kind in ("metric", "less", "changed")]
        mean = None if after[0] is None else _mean(own, values)
        share = len(strongest.touched) / len(ground.places)
        worst = math.inf if after[1] is None else sign * after[1]
        rows.append((worst, [name, CHANGES[name].told, share, *after, mean]))
    return Table(
        "What changes of the texts do",
        ["change", "what it does", "texts changed", metric, "difference", "answers changed", f"mean {metric}"],
        [row for _, row in sorted(rows, key=lambda one: one[0])],
        f"On {len(ground.places):,} {ground.split} rows, {metric} {values[f'metric {PLAIN}']:.3f} as they are. Each "
        "change at its greatest strength, the worst first; the mean is over strengths from 0 on.",
    )


def _examples(ground: Ground, told: Sequence[Trial], examples: int) -> Panel | None:
    rows: list[list[Cell]] = []
    for *_, one in _by_change(told).values():
        chosen = sorted(one.touched, key=partial(_unchanged, one))[:examples]
        change = changing(ground, one.change, one.strength)
        for number, row in zip(chosen, take(ground.rows, [ground.places[n] for n in chosen]), strict=True):
            before, after = texts_of(ground.laid, row, change(row, ground.places[number]))
            answers = [ground.answers[number], one.answers[number]]
            rows.append([one.name, before, after, *map(ground.judge.shown, [*answers, ground.truths[number]])])
    columns = ["change", "before", "after", "answer", "answer after", "right"]
    note = "Rows whose answer changed stand first."
    return Table("Changed texts", columns, rows, note) if rows else None


def _unchanged(one: Trial, number: int) -> bool:
    return bool(one.changed[number] != 1)


def texts_of(laid: Layout, row: Row, after: Row) -> tuple[str, str]:
    """The first text of a row that was changed, before and after."""
    roles = [laid.words] if laid.words else laid.texts
    role = next((role for role in roles if row[role] != after[role]), roles[0])
    shown = (value if isinstance(value, str) else " ".join(map(str.strip, value)) for value in (row[role], after[role]))
    before, new = shown
    return cut(before, new), cut(new, before)
