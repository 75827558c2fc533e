"""The suite that every run has: the task's metrics, with intervals, beside what needs no training."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.core import part
from tunesmith.core.column import Row
from tunesmith.core.finished import Finished
from tunesmith.core.panel import Cell, Figure, Panel, Result, Table
from tunesmith.core.rows import each
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats
from tunesmith.evaluate.subjects import answers_of

SHOWN_MISTAKES = 30
UNSHOWN = ("scores", "candidates")


class Task(part.Suite):
    """The task's metrics on every held-out split, with bootstrap intervals, beside two baselines.

    Baselines: the best constant answer, where there is one (for classes: the most frequent one of the training split),
    and the same model before training, whose head is random where the backbone brings none. Then, for the test split,
    where the answers are right and wrong, and the worst mistakes.
    Shapes: figures and panels. Paper: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979, for the
    intervals.
    """

    def measure(self, finished: Finished) -> Result:
        """Figures of every held-out split; panels of the last of them (the test split, where there is one)."""
        result = Result()
        for split in ("validation", "test"):
            if split in finished.splits:
                result.figures.extend(self._figures(finished, split))
        shown = next((split for split in ("test", "validation") if split in finished.splits), None)
        if shown:
            result.panels.extend(self._panels(finished, shown))
        return result

    def _figures(self, finished: Finished, split: str) -> list[Figure]:
        task, rows = finished.task, finished.splits[split]
        truths = task.truths(each(rows))
        untrained = finished.untrained(split).answers if finished.starts else None
        subjects = answers_of(task, truths, finished.predict(split).answers, untrained)
        figures = []
        for subject, answers in subjects.items():
            spans = stats.bootstrap(task.metrics, truths, answers, seed_of(finished.seed, "bootstrap"))
            figures += stats.figures(task.metrics(truths, answers), spans, split, subject)
        return figures

    def _panels(self, finished: Finished, split: str) -> list[Panel]:
        task, rows = finished.task, finished.splits[split]
        predictions = finished.predict(split)
        truths = task.truths(each(rows))
        panels = task.panels(truths, predictions.answers)
        worst = task.mistakes(truths, predictions.answers, predictions.confidences)[:SHOWN_MISTAKES]
        if len(worst):
            panels.append(_mistakes(finished.lines(split, worst.tolist()), split))
        return panels


def _mistakes(lines: Sequence[Row], split: str) -> Table:
    columns = [name for name in dict.fromkeys(key for line in lines for key in line) if name not in UNSHOWN]
    rows = [[_cell(line.get(name)) for name in columns] for line in lines]
    return Table(f"Worst mistakes on the {split} split", columns, rows)


def _cell(value: object) -> Cell:
    """Lists as their items, mappings as their values: what a reader wants to see of them."""
    if isinstance(value, list | tuple):
        return ", ".join(str(_cell(item)) for item in value)
    if isinstance(value, dict):
        return " ".join(str(_cell(item)) for item in value.values())
    return value  # type: ignore[return-value]
