"""Answers beside each other: whether they are the same, whether they are right, and how a reader sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.finished import Asked
from tunesmith.core.part import Task
from tunesmith.core.rows import Rows

LONGEST = 160
"""Characters of a text that a table shows."""


@dataclass(frozen=True)
class Judge:
    """Compares answers of a task. tolerance: how far numbers may be apart and be the same."""

    task: Task
    tolerance: float = 0.0

    def same(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether answers are the same, [rows]: numbers within the tolerance, of answers with several columns the first
        (the text that is given), of truth values all.
        """
        if some.dtype == object:
            pairs = zip(_firsts(some), _firsts(others), strict=True)
            return np.array([one == other for one, other in pairs], dtype=bool)
        if some.dtype.kind == "f":
            return np.asarray(np.abs(some - others) <= self.tolerance)
        equal = np.asarray(some == others)
        return equal if equal.ndim == 1 else np.asarray(equal.all(axis=1))

    def given(self, answers: np.ndarray) -> np.ndarray:
        """Whether there is an answer, [rows]: some tasks answer a part of the rows that they are measured on."""
        if answers.dtype != object:
            return np.ones(len(answers), dtype=bool)
        return np.array([one is not None for one in _firsts(answers)], dtype=bool)

    def right(self, truths: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Whether answers are right, [rows]: the same as the truth; where the truth has several columns, those for
        which the task's metric is at its best on the row alone.
        """
        if truths.dtype != object or truths.ndim == 1:
            return self.same(truths, answers)
        ones = (slice(place, place + 1) for place in range(len(truths)))
        return np.array([self.task.metrics(truths[one], answers[one])[self.task.metric] == 1.0 for one in ones])

    def shown(self, answer: Any) -> str:
        """An answer as a table shows it: classes by their names."""
        names = self.task.head().get("id2label", {})
        if isinstance(answer, np.ndarray) and answer.dtype == bool:
            return ", ".join(str(names.get(place, place)) for place in np.flatnonzero(answer)) or "none"
        if isinstance(answer, np.ndarray):
            return cut(str(answer[0]) or "none")
        if isinstance(answer, int | np.integer):
            return str(names.get(int(answer), answer))
        if isinstance(answer, float | np.floating):
            return f"{float(answer):.4g}"
        return cut(" ".join(map(str, answer)) if isinstance(answer, tuple | list) else str(answer))


def cut(text: str, beside: str | None = None) -> str:
    """The text, or where it is long, a piece of it: around the first character in which it differs from another."""
    text = " ".join(text.split()) if beside is None else text
    if len(text) <= LONGEST:
        return text
    pairs = enumerate(zip(text, beside or text, strict=False))
    start = max(0, next((place for place, (one, other) in pairs if one != other), 0) - LONGEST // 4)
    return f"{'…' if start else ''}{text[start : start + LONGEST]}{'…' if start + LONGEST < len(text) else ''}"


def probabilities(model: Asked, rows: Rows) -> np.ndarray | None:
    """Softmax of a model's scores, [rows, classes]; None where it gives none."""
    scores = model.scores(rows)
    if scores is None:
        return None
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def spread(truths: np.ndarray) -> float:
    """The standard deviation of numbers; 1 of anything else, and of numbers that are all alike."""
    return float(truths.std()) or 1.0 if truths.dtype.kind == "f" and truths.ndim == 1 else 1.0


def _firsts(answers: np.ndarray) -> list[Any]:
    first: list[Any] = (answers if answers.ndim == 1 else answers[:, 0]).tolist()
    return first
