"""The slices that a recipe asks for: how a split is cut by them, or why it can't be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunesmith.core.errors import DataError
from tunesmith.core.finished import Finished
from tunesmith.core.panel import Figure, Panel
from tunesmith.core.rows import each
from tunesmith.evaluate import other_rows, slices
from tunesmith.evaluate.shift import Answered
from tunesmith.evaluate.slices import Cut
from tunesmith.evaluate.unmeasured import unmeasured


def measured(
    finished: Finished, split: str, columns: Sequence[str], others: Sequence[str]
) -> tuple[list[Figure], list[Panel]]:
    """Figures and a table for each cut of the split: by columns of its file, and by `others`: class, length,
    confidence. What can't be cut so says why.
    """
    own = Answered(split, finished.task.truths(each(finished.splits[split])), finished.predict(split).answers)
    figures: list[Figure] = []
    panels: list[Panel] = []
    for by in (*columns, *others):
        try:
            cut = OTHERS[by](finished, split) if by in others else _by_column(finished, split, by)
        except DataError as error:
            panels.append(unmeasured(f"Slices by {by}", error.message.rstrip(".")))
            continue
        if len(cut.names) < 2:
            panels.append(unmeasured(f"Slices by {by}", f"the {split} split has no two of them"))
            continue
        found, table = slices.measured(finished.task, own, cut, finished.seed)
        figures += found
        panels.append(table)
    return figures, panels


def _by_column(finished: Finished, split: str, column: str) -> Cut:
    if split not in finished.files:
        raise DataError("the split's file is not at hand")
    return slices.by_column(finished.files[split], column, finished.splits[split])


def _by_class(finished: Finished, split: str) -> Cut:
    task = finished.task
    roles = [one.role for one in task.columns() if one.target and one.classes and one.storage == "text"]
    if not roles:
        raise DataError(f"the task '{task.word()}', as it is set, has no one class a row")
    return slices.by_values("class", [str(row[roles[0]]) for row in each(finished.splits[split])])


def _by_length(finished: Finished, split: str) -> Cut:
    found = other_rows.lengths(finished.task, finished.splits[split])
    if found is None:
        raise DataError("the rows hold no text")
    return slices.by_quarters("length", found, " characters")


def _by_confidence(finished: Finished, split: str) -> Cut:
    return slices.by_quarters("confidence", finished.predict(split).confidences, "")


OTHERS: dict[str, Callable[[Finished, str], Cut]] = {
    "class": _by_class,
    "length": _by_length,
    "confidence": _by_confidence,
}
