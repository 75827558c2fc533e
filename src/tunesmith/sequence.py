"""What the stages of a recipe did to each other, as figures, tables and a sentence, from `continual.json` alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunesmith.core.panel import Cell, Heatmap, Panel, Table
from tunesmith.evaluate import forgetting
from tunesmith.report.wording import listing, number, words

Stages = Mapping[str, Mapping[str, Any]]
"""The stages of `continual.json` by name, in their order: see `continual.py`."""
MEANING = {
    "average": "of all tasks, after the last stage",
    "backward transfer": "how tasks changed since their own stage; below 0: they got worse",
    "forgetting": "how far tasks are below the best that they had been",
    "forward transfer": "how much better a task is before its own stage than untrained; above 0: the others helped",
    "intransigence": "how much better a task is after a training alone; below 0: the others helped",
}
ALONE = "alone"


def summary(stages: Stages) -> dict[str, float]:
    """Figures of a sequence, by name: those for which something was measured. Each is a mean over tasks in the unit of
    their metrics, with the sign turned where less is better.
    """
    if not stages:
        return {}
    later = list(stages)[1:]
    matrix = [[_signed(stages, name, stage["row"].get(name)) for name in stages] for stage in stages.values()]
    own = [matrix[place][place] for place in range(1, len(stages))]
    before, untrained, alone = (
        [_signed(stages, name, stages[name].get(key)) for name in later] for key in ("before", "untrained", ALONE)
    )
    found = {
        "average": forgetting.average(matrix),
        "backward transfer": forgetting.backward(matrix) if later else math.nan,
        "forgetting": forgetting.forgetting(matrix) if later else math.nan,
        "forward transfer": forgetting.forward(before, untrained),
        "intransigence": forgetting.intransigence(own, alone),
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def panels(stages: Stages) -> list[Panel]:
    """The matrix, and what `tables` gives."""
    names = _tasks(stages)
    if not names:
        return tables(stages)
    matrix = Heatmap(
        "Test metric of every task after every stage",
        [f"after {name}" for name in stages],
        [f"{name} ({words(stages[name]['metric'])})" for name in names],
        [[stage["row"].get(name, math.nan) for name in names] for stage in stages.values()],
        "task",
        "model",
        "A task's column begins with its own stage.",
    )
    return [matrix, *tables(stages)]


def tables(stages: Stages) -> list[Panel]:
    """Every task on its test rows; figures of the sequence; what could not be measured, and why."""
    missing = [[name, what, why] for name, stage in stages.items() for what, why in stage.get("unmeasured", {}).items()]
    left = [Table("Not measured", ["stage", "what", "why"], missing)] if missing else []
    if not _tasks(stages):
        return [Table("No stage has a test split", ["stage"], [[name] for name in stages]), *left]
    return [_each(stages), _figures(stages), *left]


def verdict(stages: Stages) -> str:
    """A sentence on what later stages did to earlier tasks."""
    last = list(stages)[-1]
    again = _again(stages)
    worse = []
    for name in again:
        own, now = stages[name]["row"][name], stages[last]["row"][name]
        if _signed(stages, name, now) < _signed(stages, name, own) and number(now) != number(own):
            worse.append(f"{name} ({words(stages[name]['metric'])} {number(own)}, at the end {number(now)})")
    if worse:
        whose = "its own stage" if len(worse) == 1 else "their own stages"
        return f"Worse than after {whose}: {listing(worse)}. What holds on to it: tunesmith explain replay."
    if again:
        return "No earlier task is worse than it was after its own stage."
    return "No earlier task was measured again after the last stage."


def _tasks(stages: Stages) -> list[str]:
    """The stages whose tasks can be compared: those that were measured after their own training."""
    return [name for name in stages if name in stages[name]["row"]]


def _again(stages: Stages) -> list[str]:
    """The earlier ones of them that were measured after the last stage."""
    last = list(stages)[-1]
    return [name for name in _tasks(stages) if name != last and name in stages[last]["row"]]


def _each(stages: Stages) -> Table:
    """One line a task: untrained, before and after its own stage, at the end, and trained alone, where it was."""
    last = list(stages)[-1]
    keys = ["untrained", "before", *([ALONE] if any(ALONE in stage for stage in stages.values()) else [])]
    rows: list[list[Cell]] = []
    for name in _tasks(stages):
        stage = stages[name]
        untrained, before, *alone = [stage.get(key) for key in keys]
        then = [stage["row"][name], stages[last]["row"].get(name)]
        rows.append([name, words(stage["metric"]), untrained, before, *then, *alone])
    note = (
        "Untrained: the model before all stages, with a fresh head. Before, after: the task's own stage; before it the "
        "head is fresh, too, unless that of the stage before fits."
    )
    if ALONE in keys:
        note += " Alone: trained on this task from the model before all stages"
        left = {name: stage.get("alone_without") for name, stage in stages.items()}
        without = listing([f"{name} without {listing(parts)}" for name, parts in left.items() if parts])
        note += f"; {without}, as there is nothing to look back at." if without else "."
    return Table("Every task on its test rows", ["task", "metric", *_headings(keys)], rows, note)


def _headings(keys: list[str]) -> list[str]:
    return [*keys[:2], "after", "at the end", *keys[2:]]


def _figures(stages: Stages) -> Table:
    """The figures whose tasks have one metric: a mean of others says nothing."""
    rows: list[list[Cell]] = []
    mixed = []
    of = _over(stages)
    for name, value in summary(stages).items():
        kinds = list(dict.fromkeys(words(stages[task]["metric"]) for task in of[name]))
        if len(kinds) == 1:
            rows.append([name, value, kinds[0], MEANING[name]])
        else:
            mixed.append(name)
    note = "Means over tasks, with the sign turned where less is better."
    if mixed:
        note += f" Not shown: {listing(mixed)}, whose tasks have different metrics."
    return Table("The sequence", ["figure", "value", "metric", "what it says"], rows, note)


def _over(stages: Stages) -> dict[str, list[str]]:
    """The tasks over which each figure is a mean."""
    last, later = list(stages)[-1], list(stages)[1:]

    def having(*keys: str) -> list[str]:
        return [name for name in later if all(stages[name].get(key) is not None for key in keys)]

    return {
        "average": [name for name in _tasks(stages) if name in stages[last]["row"]],
        "backward transfer": _again(stages),
        "forgetting": _again(stages),
        "forward transfer": having("before", "untrained"),
        "intransigence": [name for name in having(ALONE) if name in stages[name]["row"]],
    }


def _signed(stages: Stages, name: str, value: float | None) -> float:
    """A metric of a task such that more is better; NaN where it was not measured."""
    if value is None:
        return math.nan
    return value if stages[name]["higher_is_better"] else -value
