"""Contrast pairs: two rows that differ in little, and in their label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.core.notes import note
from tunesmith.core.panel import Figure, Result, Table
from tunesmith.core.rows import each, take
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats
from tunesmith.evaluate.robustness_answers import cut
from tunesmith.evaluate.robustness_measure import Ground

SUBJECT = "contrast pairs"


def measured(ground: Ground, path: Path, examples: int) -> Result:
    """Consistency: the share of pairs (rows 1 and 2, 3 and 4, …) of a labelled file of which both answers are right;
    and the share of rows that are. A file with an odd number of rows raises DataError.
    """
    finished, judge = ground.finished, ground.judge
    rows = finished.read(path)
    if len(rows) % 2:
        raise DataError(
            f"The file {path} of contrast pairs has {len(rows):,} rows: one has no other.",
            hint="Two consecutive rows are a pair.",
        )
    truths = finished.task.truths(each(rows))
    answers = finished.now.predict(rows).answers
    right = judge.right(truths, answers).reshape(-1, 2)  # [pairs, 2]
    alike = int(judge.same(truths[::2], truths[1::2]).sum())
    if alike:
        note(f"{alike:,} of {len(right):,} contrast pairs of {path} have the same label twice.")

    def shares(right: np.ndarray, _: np.ndarray) -> dict[str, float]:
        return {"both right": float(right.all(axis=1).mean()), "right": float(right.mean())}

    spans = stats.bootstrap(shares, right, right, seed_of(finished.seed, "bootstrap"))
    figures = [Figure(name, value, path.name, SUBJECT, *spans[name]) for name, value in shares(right, right).items()]
    broken = [int(pair) for pair in np.flatnonzero(~right.all(axis=1))[: 5 * examples]]
    numbers = [number for pair in broken for number in (2 * pair, 2 * pair + 1)]
    cells = [
        [cut(ground.laid.told(row)), judge.shown(truths[number]), judge.shown(answers[number])]
        for number, row in zip(numbers, take(rows, numbers), strict=True)
    ]
    table = Table("Contrast pairs that were not both right", ["text", "right", "answer"], cells, f"From {path}.")
    return Result(figures, [table] if cells else [])
