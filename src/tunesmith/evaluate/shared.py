"""The rows that several runs answered, found again in their predictions files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tunesmith.core import registry
from tunesmith.core.column import Row
from tunesmith.core.errors import RunFolderError, UserError
from tunesmith.core.files import read_json, reading
from tunesmith.core.notes import silent
from tunesmith.core.part import Task

LINE, TOKENS = "line", "tokens"
ENOUGH = 0.5
"""The least share of each run's rows that all must have: fewer say too little of the whole split."""


@dataclass(frozen=True)
class Answered:
    """What one run said to the rows that all share: its task as it had learned, right answers and given ones [rows, …]
    in the task's form.
    """

    task: Task
    truths: np.ndarray
    answers: np.ndarray

    def metrics(self, places: np.ndarray) -> dict[str, float]:
        """The task's metrics on some of the rows."""
        return self.task.metrics(self.truths[places], self.answers[places])


@dataclass(frozen=True)
class SameRows:
    """What runs said to the rows that all of them answered, in one order; none where `why` says what is in the way.
    barred: whether their figures don't compare either.
    """

    answered: Sequence[Answered]
    rows: int
    why: str = ""
    barred: bool = False


def task_of(folder: Path, spec: Mapping[str, Any]) -> Task:
    """The task of a run, as it had learned; spec: what the recipe says of it."""
    task = cast(Task, registry.build("tasks", spec))
    state = read_json(folder / "task.json")
    with reading(folder / "task.json"):
        task.restore(state)
    return task


def lines_of(path: Path) -> list[Row]:
    """The lines of a predictions file; one that is missing or damaged raises RunFolderError."""
    if not path.is_file():
        raise RunFolderError(f"The file {path} is missing.")
    found = []
    with path.open(encoding="utf-8") as stream:
        for number, text in enumerate(stream, 1):
            try:
                found.append(json.loads(text))
            except ValueError as error:
                raise RunFolderError(f"The file {path} is damaged in line {number}: {error}.") from None
    return found


def shared(tasks: Sequence[Task], files: Sequence[Path], same_file: bool) -> SameRows:
    """The rows that all runs answered, by each run's task and predictions file.

    same_file: whether all splits come from one file, by its hash: rows are then known by their line; else by what they
    say, the second of two equal rows as the second.
    """
    try:
        lines = [lines_of(path) for path in files]
    except RunFolderError as error:
        return SameRows([], 0, error.message)
    named = same_file and all(LINE in line for one in lines for line in one)
    keys = [_keys(one, None if named else task) for task, one in zip(tasks, lines, strict=True)]
    common = set(keys[0]).intersection(*keys[1:])
    if any(len(common) < ENOUGH * len(one) for one in keys) or not common:
        counts = f"{len(common):,} of {min(map(len, keys)):,}"
        return SameRows([], 0, f"Their splits differ: only {counts} rows were answered by all.")
    wanted = [key for key in keys[0] if key in common]
    told = [[one[place_of[key]] for key in wanted] for place_of, one in zip(keys, lines, strict=True)]
    if any(line.get(TOKENS) != same.get(TOKENS) for one in told[1:] for line, same in zip(one, told[0], strict=True)):
        return SameRows(
            [], 0, "They read the same rows as other tokens: what is counted a token does not compare.", True
        )
    with silent():
        read = [_answered(task, one) for task, one in zip(tasks, told, strict=True)]
    found = [one for one in read if one is not None]
    if len(found) < len(read):
        return SameRows([], 0, f"Predictions of '{tasks[0].word()}' do not hold what its metrics need of a row.")
    if any(not alike(found[0].truths, one.truths) for one in found[1:]):
        return SameRows([], 0, "They know other answers: the right ones of the same rows are not the same to all.")
    return SameRows(found, len(wanted))


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays, also of objects, hold the same."""
    if first.shape != second.shape:
        return False
    return first.tolist() == second.tolist() if first.dtype == object else np.array_equal(first, second, equal_nan=True)


def _answered(task: Task, lines: Sequence[Row]) -> Answered | None:
    try:
        answers = task.reread(lines)
        return None if answers is None else Answered(task, task.truths(lines), answers)
    except (UserError, KeyError, TypeError, ValueError):
        return None


def _keys(lines: Sequence[Row], task: Task | None) -> dict[tuple[str, int], int]:
    """The place of every row by its line; with a task by what its columns hold, and how many equal ones came before."""
    roles = [] if task is None else [column.role for column in task.columns()]
    seen: Counter[str] = Counter()
    found = {}
    for place, line in enumerate(lines):
        told = line[LINE] if task is None else {role: line.get(role) for role in roles}
        key = json.dumps(told, sort_keys=True, ensure_ascii=False)
        found[key, seen[key]] = place
        seen[key] += 1
    return found
