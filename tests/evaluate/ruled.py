"""A finished model that answers by a rule, for suites to measure without one that was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset

from tunesmith.core import registry
from tunesmith.core.column import Row
from tunesmith.core.finished import Finished, Predictions
from tunesmith.core.part import Task
from tunesmith.core.rows import Rows, each
from tunesmith.data.read import read
from tunesmith.evaluate import robustness_measure, robustness_rows

CLASSES = ("cancel", "praise", "price")


class Ruled:
    """Gives each row the scores [classes] that a rule says, or the number; `asked` counts the rows."""

    def __init__(self, task: Task, rule: Callable[[Row], Any]) -> None:
        self.task, self.rule, self.asked = task, rule, 0

    def predict(self, rows: Rows) -> Predictions:
        found = np.array(self._told(rows))
        answers = found.argmax(axis=1) if found.ndim == 2 else found
        return Predictions(answers, np.ones(len(found)), 0.0)

    def scores(self, rows: Rows) -> np.ndarray | None:
        found = np.array(self._told(rows), dtype=np.float32)
        return found if found.ndim == 2 else None

    def _told(self, rows: Rows) -> list[Any]:
        self.asked += len(rows)
        return [self.rule(row) for row in each(rows)]


def by_words(row: Row) -> list[float]:
    """Scores of CLASSES: "cancel" and "lovely", so written, speak for their classes; else it is a price."""
    text = row["text"]
    return [2.0 * ("cancel" in text) - 1.0 * (" not " in text), 2.0 * ("lovely" in text), 1.0]


def task(name: str = "classify", **settings: Any) -> Task:
    """A task that has learned."""
    found = cast(Task, registry.build("tasks", {"name": name, **settings}))
    if name == "classify":
        found.learn({"label": label} for label in CLASSES)
    else:
        found.learn({"score": score} for score in (0.0, 10.0))
    return found


def finished(
    rows: Sequence[Row], rule: Callable[[Row], Any] = by_words, part: Task | None = None, **more: Any
) -> Finished:
    """A model by a rule, with these rows as its test split."""
    part = part or task()
    splits = {"test": cast(Rows, Dataset.from_list(list(rows)))} if rows else {}
    now = Ruled(part, rule)
    values: dict[str, Any] = {
        "task": part,
        "splits": splits,
        "predict": lambda name: now.predict(splits[name]),
        "untrained": None,
        "lines": None,
        "seed": 0,
        "train": None,
        "now": now,
        "before": None,
        "read": lambda path: read(Path(path), part.columns()).rows,
    }
    return Finished(**{**values, **more})


def rows(count: int = 8) -> list[Row]:
    """Texts that `by_words` answers rightly."""
    texts = {
        "cancel": "please cancel this order now",
        "praise": "what lovely lamps",
        "price": "how much would this be?",
    }
    names = list(texts)
    return [{"text": f"{texts[names[n % 3]]}", "label": names[n % 3], "line": n + 2} for n in range(count)]


def ground(rows: Sequence[Row], rule: Callable[[Row], Any] = by_words, part: Task | None = None) -> Any:
    """What is measured on: all of the rows."""
    whole = finished(rows, rule, part)
    return robustness_measure.ground(whole, robustness_rows.layout(whole.task), "test", 500, 0.1)
