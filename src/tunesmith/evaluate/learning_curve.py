"""What more rows would give: the recipe trained again on shares of its training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import ceil

import numpy as np

from tunesmith.core.finished import Again, Finished
from tunesmith.core.notes import note
from tunesmith.core.panel import Figure, Lines, Panel
from tunesmith.core.part import Task
from tunesmith.core.rows import each
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats
from tunesmith.evaluate.stats import Span
from tunesmith.evaluate.unmeasured import unmeasured

TWICE = "gain_of_twice_the_rows"
Point = tuple[int, np.ndarray]
"""Training rows, and the answers of the model that they made [rows, …]."""


def measured(finished: Finished, split: str, shares: Sequence[float]) -> tuple[list[Figure], list[Panel]]:
    """The main metric by training rows; the share 1 is the run itself. Shares that could not be trained are told."""
    train = finished.train()
    if finished.again is None or train is None:
        return [], [unmeasured("Learning curve", "the training rows are not at hand")]
    task, rows = finished.task, finished.splits[split]
    truths = task.truths(each(rows))
    panels: list[Panel] = []
    points: list[Point] = []
    for share in sorted(set(shares)):
        found = finished.predict(split).answers if share == 1 else _answers(finished, finished.again, split, share)
        if isinstance(found, str):
            panels.append(unmeasured(f"Learning curve, {share:g} of the rows", found))
        else:
            points.append((ceil(share * len(train)), found))
    figures: list[Figure] = []
    values = []
    for count, answers in points:
        spans = stats.bootstrap(task.metrics, truths, answers, seed_of(finished.seed, "bootstrap"))
        value = task.metrics(truths, answers)[task.metric]
        values.append(value)
        figures += stats.figures({task.metric: value}, spans, split, f"{count:,} training rows")
    told = "Each with the recipe's epochs: fewer rows are fewer updates."
    if len(points) > 1:
        value, span = doubled(task, truths, points[-2], points[-1], seed_of(finished.seed, "bootstrap"))
        figures += stats.figures({TWICE: value}, {TWICE: span}, split, "by the last two points")
        told += f" {sentence(task.metric, value, span)}"
    line = ([count for count, _ in points], values)
    panels.append(
        Lines(f"Learning curve on the {split} split", {"model": line}, x="training rows", y=task.metric, note=told)
    )
    return figures, panels


def _answers(finished: Finished, again: Again, split: str, share: float) -> np.ndarray | str:
    note(f"Learning curve: training on {share:g} of the rows.")
    found = again(f"share-{share:g}", {}, share=share)
    return found.failed if found.now is None else found.now.predict(finished.splits[split]).answers


def doubled(task: Task, truths: np.ndarray, low: Point, high: Point, seed: int) -> tuple[float, Span]:
    """What twice the rows add, by a straight line through two points over the logarithm of rows, and its interval.

    Formula: (m_2 - m_1) / log2(n_2 / n_1). Symbols: m the main metric, n training rows. The rows that judge are drawn
    anew for both points together.
    """
    doublings = math.log2(high[0] / low[0])

    def slope(places: np.ndarray | slice) -> dict[str, float]:
        one, two = (task.metrics(truths[places], answers[places])[task.metric] for _, answers in (low, high))
        return {TWICE: (two - one) / doublings}

    draws = stats.resampled(slope, seed, len(truths))
    return slope(slice(None))[TWICE], stats.interval(draws[TWICE])


def sentence(metric: str, value: float, span: Span) -> str:
    """What that is likely to mean, and what the interval does not know."""
    return (
        f"By its last two points, twice the rows would change {metric} by {value:+.3g} ({span[0]:+.3g} to "
        f"{span[1]:+.3g}). The interval knows of other rows to judge, not of another seed."
    )
