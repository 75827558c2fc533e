"""A user's checks, asked of a model: how many cases of each fail, and which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from tunesmith.core.column import Row
from tunesmith.core.errors import RecipeError
from tunesmith.core.panel import Cell, Figure, Result, Table
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate.robustness_answers import cut, probabilities
from tunesmith.evaluate.robustness_checks import Check, Checks, misfits, row_of, with_answer
from tunesmith.evaluate.robustness_measure import Ground
from tunesmith.evaluate.robustness_rows import Listed


@dataclass(frozen=True)
class Case:
    """One filling of a check: the numbers of its rows among all that are asked."""

    check: Check
    rows: list[int]


def measured(ground: Ground, checks: Checks, examples: int) -> Result:
    """The share of cases that fail, for each check, and some of them. What does not fit the task raises RecipeError."""
    task = ground.judge.task
    checks.raise_all(misfits(checks, task, ground.laid))
    rows: list[Row] = []
    cases = []
    for check in checks.file.checks:
        draw = Random(seed_of(ground.finished.seed, f"check {check.name}"))
        for words in checks.fillings(check, draw):
            made = [row_of(text, words, task.columns(), ground.laid) for text in check.texts]
            # Each text is a case of its own where it has a right answer of its own.
            grouped = [[one] for one in made] if check.kind == "minimum" else [made]
            for group in grouped:
                cases.append(Case(check, list(range(len(rows), len(rows) + len(group)))))
                rows += group
    answers = ground.finished.now.predict(Listed(rows)).answers
    value = _values(ground, rows, answers, [check.of for check in checks.file.checks if check.kind == "direction"])
    wrong = [case for case in cases if _fails(ground, case, rows, answers, value)]
    figures: list[Figure] = []
    table: list[list[Cell]] = []
    told: list[list[Cell]] = []
    for check in checks.file.checks:
        all_of, failed = ([case for case in some if case.check is check] for some in (cases, wrong))
        share = len(failed) / len(all_of)
        figures.append(Figure("failed", share, checks.path.name, check.name))
        table.append([check.name, check.kind, len(all_of), len(failed), share])
        told += [_told(ground, case, rows, answers, value) for case in failed[:examples]]
    panels = [Table("Checks", ["check", "kind", "cases", "failed", "share"], table, f"From {checks.path}.")]
    if told:
        panels.append(Table("Checks that failed", ["check", "texts", "answers", "what was to be"], told))
    return Result(figures, list(panels))


Value = Callable[[Check, int], float]
"""What is to move in a check of direction, of a row by its number: the score of a class, or the number answered."""


def _values(ground: Ground, rows: list[Row], answers: np.ndarray, classes: list[str | None]) -> Value:
    if not any(classes):
        return lambda check, row: float(answers[row])
    scores = probabilities(ground.finished.now, Listed(rows))
    if scores is None:
        raise RecipeError(
            f"The task '{ground.judge.task.word()}' gives no scores of single classes, which checks of direction need.",
            hint="Leave checks of the kind direction out.",
        )
    place = {name: number for number, name in enumerate(ground.laid.labels)}
    return lambda check, row: float(scores[row, place[str(check.of)]])


def _fails(ground: Ground, case: Case, rows: list[Row], answers: np.ndarray, value: Value) -> bool:
    check, judge = case.check, ground.judge
    given = answers[case.rows]
    if check.kind == "minimum":
        truths = judge.task.truths([with_answer(rows[number], check.answer, judge.task) for number in case.rows])
        return not judge.right(truths, given).all()
    if check.kind == "invariance":
        return not judge.same(given[1:], given[[0] * (len(given) - 1)]).all()
    sign = 1 if check.goes == "up" else -1
    steps = sign * np.diff([value(check, number) for number in case.rows])
    return bool((steps <= 0).any() or (steps < check.by).any())


def _told(ground: Ground, case: Case, rows: list[Row], answers: np.ndarray, value: Value) -> list[Cell]:
    check = case.check
    given = [ground.judge.shown(answers[number]) for number in case.rows]
    wanted = {"minimum": f"the answer {check.answer}", "invariance": "the same answer"}.get(check.kind, "")
    if check.kind == "direction":
        given = [f"{value(check, number):.4g}" for number in case.rows]
        least = f", by {check.by:g}" if check.by else ""
        wanted = f"{f'the score of {check.of}' if check.of else 'the number'} goes {check.goes}{least}"
    texts = [cut(ground.laid.told(rows[number])) for number in case.rows]
    return [check.name, " → ".join(texts), " → ".join(given), wanted]
