"""Negated texts: the one change that turns the meaning round, so that an answer may well change."""

from __future__ import annotations

import numpy as np

from tunesmith.core.column import Row
from tunesmith.core.notes import note
from tunesmith.core.panel import Cell, Figure, Result, Table
from tunesmith.core.rows import take
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats
from tunesmith.evaluate.robustness_answers import probabilities
from tunesmith.evaluate.robustness_english import negated
from tunesmith.evaluate.robustness_measure import Ground, texts_of
from tunesmith.evaluate.robustness_rows import Changed, changed_places

SUBJECT = "negation"
ABOUT = (
    "A direction test: where the label depends on what is said, the score of the answer should fall. It is no fault "
    "where the label does not depend on it, so look at the texts."
)


def measured(ground: Ground, examples: int) -> Result:
    """How often the score of the answer falls when a statement of a text is negated, and how often the answer
    changes. Nothing for a task whose model gives no scores of classes, for pairs, and where no text can be negated.
    """
    if not ground.laid.labels or len(ground.laid.texts) != 1:
        return Result()
    role = ground.laid.texts[0]

    def negate(row: Row, place: int) -> Row:
        new = negated(row[role])
        return row if new is None else {**row, role: new}

    places = changed_places(ground.rows, ground.places, negate)
    if not places:
        note("Robustness: no text of these rows could be negated (negation is English).")
        return Result()
    before = probabilities(ground.finished.now, Changed(ground.rows, places, lambda row, place: row))
    after = probabilities(ground.finished.now, Changed(ground.rows, places, negate))
    if before is None or after is None:
        return Result()
    own = np.arange(len(places))
    given = before.argmax(axis=1)  # [rows]
    changed, fallen = after.argmax(axis=1) != given, after[own, given] < before[own, given]

    def shares(changed: np.ndarray, fallen: np.ndarray) -> dict[str, float]:
        return {"answers changed": float(changed.mean()), "score fell": float(fallen.mean())}

    spans = stats.bootstrap(shares, changed, fallen, seed_of(ground.finished.seed, "bootstrap"))
    figures = [
        Figure(name, value, ground.split, SUBJECT, *spans[name]) for name, value in shares(changed, fallen).items()
    ]
    rows: list[list[Cell]] = []
    chosen = own[np.argsort(fallen, kind="stable")][: 5 * examples].tolist()
    for number, row in zip(chosen, take(ground.rows, [places[n] for n in chosen]), strict=True):
        texts = texts_of(ground.laid, row, negate(row, places[number]))
        answers = [ground.judge.shown(int(scores[number].argmax())) for scores in (before, after)]
        scores = [round(float(scores[number, given[number]]), 4) for scores in (before, after)]
        rows.append([*texts, *answers, *scores])
    columns = ["before", "after", "answer", "answer after", "score of the first answer", "its score after"]
    told = (
        f"{len(places):,} of {len(ground.places):,} texts could be negated; those whose score did not fall stand first."
    )
    return Result(figures, [Table("Negated texts", columns, rows, f"{ABOUT} {told}")])
