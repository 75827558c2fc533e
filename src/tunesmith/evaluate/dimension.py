"""Intrinsic dimension: how few numbers, along directions drawn at random, do nearly as much as the training did."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tunesmith.core.finished import Finished
from tunesmith.core.notes import note
from tunesmith.core.panel import Figure, Lines, Panel, Result
from tunesmith.core.part import Task
from tunesmith.core.rows import each
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats
from tunesmith.evaluate.unmeasured import unmeasured

NEAR = 0.9
"""Of the run's metric, from which on a dimension is enough."""
FIGURE = "intrinsic_dimension"


def measured(finished: Finished, split: str | None, dimensions: Sequence[int]) -> Result:
    """The main metric of the recipe with the method `subspace`, trained again in each of these dimensions, and the
    fewest that reach NEAR of the run's own; where lower is better, that stay below its value / NEAR.

    Paper: Aghajanyan et al., 2021, whose d90 is a share of full training's metric, the best of several learning rates,
    with the head inside; here of this run's, at the method's usual rate, with the head beside (`methods.subspace`).
    """
    title = "Intrinsic dimension"
    if finished.again is None or split is None:
        why = "no rows are held out" if split is None else "the training rows are not at hand"
        return Result(panels=[unmeasured(title, why)])
    task, rows = finished.task, finished.splits[split]
    truths, seed = task.truths(each(rows)), seed_of(finished.seed, "bootstrap")
    own = task.metrics(truths, finished.predict(split).answers)[task.metric]
    figures: list[Figure] = []
    panels: list[Panel] = []
    found: dict[int, float] = {}
    for dimension in sorted(set(dimensions)):
        note(f"Intrinsic dimension: training in a subspace of {dimension:,}.")
        changes = {"method": {"name": "subspace", "dimension": dimension}, "train": {"learning_rate": None}}
        further = finished.again(f"subspace-{dimension}", changes)
        if further.now is None:
            panels.append(unmeasured(f"{title}, {dimension:,}", further.failed))
            continue
        answers = further.now.predict(rows).answers
        spans = stats.bootstrap(task.metrics, truths, answers, seed)
        found[dimension] = task.metrics(truths, answers)[task.metric]
        figures += stats.figures({task.metric: found[dimension]}, spans, split, f"subspace of {dimension:,}")
    floor = _without_input(task, truths)
    least = fewest({0: floor, **found}, own, task.higher_is_better)
    if least:
        figures.append(Figure(FIGURE, least, split))
    if found:
        panels.append(_drawn(found, own, task.metric, split, least))
    return Result(figures, panels)


def _without_input(task: Task, truths: np.ndarray) -> float:
    """The main metric of the answer that looks at no input; NaN where the task has none."""
    known = task.constant()
    return math.nan if known is None else task.metrics(truths, np.broadcast_to(known[1], truths.shape))[task.metric]


def fewest(found: dict[int, float], own: float, higher_is_better: bool) -> int | None:
    """The lowest of the dimensions whose metric is near the run's; None where none is, or a share means nothing. 0: no
    input was looked at.
    """
    if not own > 0:
        return None
    near = {d: value >= NEAR * own if higher_is_better else value * NEAR <= own for d, value in found.items()}
    return min((d for d, reached in near.items() if reached), default=None)


def _drawn(found: dict[int, float], own: float, metric: str, split: str, least: int | None) -> Lines:
    reached = {None: "None of these dimensions reaches", 0: "An answer that looks at no input reaches"}
    text = (
        "The recipe trained again, so many numbers of a random subspace beside the head (method `subspace`). "
        f"{reached.get(least, f'Of these dimensions {least} reach')} {100 * NEAR:g} % of this run's {metric}. "
        "One seed, at the method's usual rate."
    )
    known = {dimension: value for dimension, value in found.items() if math.isfinite(value)}
    ends = [min(found), max(found)]
    lines = {"subspace": ([*known], [*known.values()]), "this run": (ends, [own, own])}
    return Lines(f"Intrinsic dimension on the {split} split", lines, x="dimensions", y=metric, note=text)
