"""The suite that every run has: the task's metrics, with intervals, beside what needs no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

from pydantic import Field

from tunesmith.core import part
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError
from tunesmith.core.finished import Finished
from tunesmith.core.panel import Cell, Figure, Panel, Result, Table
from tunesmith.core.rows import Rows, each
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import learning_curve, other_rows, slices, stats
from tunesmith.evaluate.shift import Answered
from tunesmith.evaluate.slices import Cut
from tunesmith.evaluate.subjects import answers_of
from tunesmith.evaluate.unmeasured import unmeasured

SHOWN_MISTAKES = 30
UNSHOWN = ("scores", "candidates")


class Task(part.Suite):
    """The task's metrics on every held-out split, with bootstrap intervals, beside two baselines.

    Baselines: the best constant answer, where there is one (for classes: the most frequent one of the training split),
    and the same model before training, whose head is random where the backbone brings none. Then, for the test split,
    where the answers are right and wrong, and the worst mistakes.
    Asked for: the main metric of slices of that split, and which are worse than the rest beyond chance; and of models
    trained on shares of the rows.
    Shapes: figures and panels. Paper: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979, for the
    intervals.
    """

    slices: list[str] = Field(default_factory=list)
    """Columns of the held-out file: the main metric for each of their values, beside that of the other rows."""
    by_class: bool = False
    """Whether it is told for the rows of each true class."""
    by_length: bool = False
    """Whether it is told for each quarter of the rows, the shortest texts first."""
    by_confidence: bool = False
    """Whether it is told for each quarter of the rows, the least sure answers first."""
    learning_curve: list[Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=list)
    """Shares of the training rows on each of which the recipe is trained again; 1 is the run itself."""

    def measure(self, finished: Finished) -> Result:
        """Figures of every held-out split; panels of the last of them (the test split, where there is one)."""
        result = Result()
        for split in ("validation", "test"):
            if split in finished.splits:
                result.figures.extend(self._figures(finished, split))
        shown = next((split for split in ("test", "validation") if split in finished.splits), None)
        if shown:
            result.panels.extend(self._panels(finished, shown))
            self._slices(finished, shown, result)
        if shown and self.learning_curve:
            figures, panels = learning_curve.measured(finished, shown, self.learning_curve)
            result.figures.extend(figures)
            result.panels.extend(panels)
        return result

    def _slices(self, finished: Finished, split: str, result: Result) -> None:
        rows = finished.splits[split]
        own = Answered(split, finished.task.truths(each(rows)), finished.predict(split).answers)
        for by, make in self._cuts(finished, split).items():
            try:
                cut = make()
            except DataError as error:
                result.panels.append(unmeasured(f"Slices by {by}", error.message.rstrip(".")))
                continue
            if len(cut.names) < 2:
                result.panels.append(unmeasured(f"Slices by {by}", f"the {split} split has no two of them"))
                continue
            figures, table = slices.measured(finished.task, own, cut, finished.seed)
            result.figures.extend(figures)
            result.panels.append(table)

    def _cuts(self, finished: Finished, split: str) -> dict[str, Callable[[], Cut]]:
        """How the split is cut, by what."""
        rows, task = finished.splits[split], finished.task
        found: dict[str, Callable[[], Cut]] = {}
        for column in self.slices:
            found[column] = partial(_by_column, finished, split, column)
        if self.by_class:
            found["class"] = partial(_by_class, task, rows)
        if self.by_length:
            found["length"] = partial(_by_length, task, rows)
        if self.by_confidence:
            found["confidence"] = lambda: slices.by_quarters("confidence", finished.predict(split).confidences, "")
        return found

    def _figures(self, finished: Finished, split: str) -> list[Figure]:
        task, rows = finished.task, finished.splits[split]
        truths = task.truths(each(rows))
        subjects = answers_of(task, truths, finished.predict(split).answers, finished.untrained(split).answers)
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


def _by_column(finished: Finished, split: str, column: str) -> Cut:
    if split not in finished.files:
        raise DataError("the split's file is not at hand")
    return slices.by_column(finished.files[split], column, finished.splits[split])


def _by_class(task: part.Task, rows: Rows) -> Cut:
    roles = [one.role for one in task.columns() if one.target and one.classes and one.storage == "text"]
    if not roles:
        raise DataError(f"the task '{task.word()}', as it is set, has no one class a row")
    return slices.by_values("class", [str(row[roles[0]]) for row in each(rows)])


def _by_length(task: part.Task, rows: Rows) -> Cut:
    found = other_rows.lengths(task, rows)
    if found is None:
        raise DataError("the rows hold no text")
    return slices.by_quarters("length", found, " characters")


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
