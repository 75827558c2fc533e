"""A user's own checks of what a model must be able to do, from a YAML file.

    slots: {thing: [table, lamp]}
    checks:
      - {name: cancelling, kind: minimum, texts: ["Please cancel my {thing}."], answer: cancel}
      - {name: greeting, kind: invariance, texts: ["Where is my {thing}?", "Hello! Where is my {thing}?"]}
      - {name: broken, kind: direction, texts: ["My {thing} came.", "My {thing} came broken."], of: complaint, goes: up}

Every text is filled with every word of its slots, the same in all texts of a check. `minimum`: each text must get the
answer. `invariance`: all texts of a filling must get the same answer. `direction`: from each text to the next the score
of a class (`of`), or the number that is answered, must go up or down, by at least `by`. Where a row has several texts,
a text is a mapping of the task's columns: {question: …, context: …}.

After Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList", 2020.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunesmith.core import document
from tunesmith.core.column import Column, Row
from tunesmith.core.document import Document
from tunesmith.core.errors import RecipeError, UserError, nearest, raise_faults
from tunesmith.core.faults import dotted, located
from tunesmith.core.notes import note
from tunesmith.core.part import Task
from tunesmith.evaluate.robustness_rows import Layout

SLOT = re.compile(r"\{(\w+)\}")
CASES = 1000
"""Most fillings of a check; of more, so many are drawn."""
NEEDED = "Write `checks:` and below it a list of checks, each with name, kind and texts."
Fault = tuple[tuple[str | int, ...], str]


class Check(BaseModel):
    """One check, as the file holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    kind: Literal["minimum", "invariance", "direction"]
    texts: list[str | dict[str, str]] = Field(min_length=1)
    answer: str | int | float | bool | list[str] | None = None
    of: str | None = None
    goes: Literal["up", "down"] | None = None
    by: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {"minimum": "answer", "direction": "goes"}.get(self.kind)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"a check of the kind {self.kind} needs `{needed}`")
        foreign = {"answer": "minimum", "goes": "direction", "of": "direction", "by": "direction"}
        wrong = [name for name in self.model_fields_set if self.kind != foreign.get(name, self.kind)]
        if wrong:
            raise ValueError(f"a check of the kind {self.kind} knows no {' and no '.join(sorted(wrong))}")
        if self.kind != "minimum" and len(self.texts) < 2:
            raise ValueError(f"a check of the kind {self.kind} needs at least two texts")
        return self


class File(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    slots: dict[str, list[str]] = Field(default_factory=dict)
    checks: list[Check] = Field(min_length=1)


@dataclass(frozen=True)
class Checks:
    """The checks of a file, and where each of its keys stands."""

    path: Path
    file: File
    lines: Document

    def fillings(self, check: Check, draw: Random) -> list[dict[str, str]]:
        """The words of every slot that a check uses, in every way; at most CASES."""
        names = sorted({name for text in check.texts for name in slots_of(text)})
        count = 1
        for name in names:
            count *= len(self.file.slots[name])
        if count <= CASES:
            found = product(*(self.file.slots[name] for name in names))
            return [dict(zip(names, words, strict=True)) for words in found]
        note(f"The check '{check.name}' has {count:,} fillings: {CASES:,} of them are drawn.")
        return [{name: draw.choice(self.file.slots[name]) for name in names} for _ in range(CASES)]

    def raise_all(self, faults: Sequence[Fault]) -> None:
        """Raise RecipeError with all faults, in the order of their lines; nothing where there are none."""
        ordered = sorted(faults, key=lambda fault: self.lines.line(fault[0]) or 0)
        told = [f"{self.lines.place(path) or 'the file'}, {dotted(path)}: {what}" for path, what in ordered]
        raise_faults(RecipeError, f"The checks {self.path} are wrong:", told)


def read(path: Path) -> Checks:
    """The checks of a file; raises RecipeError with all that is wrong with it, each with its line."""
    lines = document.read(path, "file of checks", NEEDED)
    faults = list(_strangers(lines.values))
    known = [*File.model_fields, *Check.model_fields, *_mapping(lines.values.get("slots"))]
    try:
        file = File.model_validate(lines.values)
    except ValidationError as error:
        faults = [*located(error, known), *faults]
        file = File.model_construct(slots={}, checks=[])
    found = Checks(path, file, lines)
    found.raise_all(faults)
    return found


def slots_of(text: str | Mapping[str, str]) -> list[str]:
    """The names of the slots of a text."""
    return [name for one in ([text] if isinstance(text, str) else text.values()) for name in SLOT.findall(str(one))]


def row_of(text: str | Mapping[str, str], words: Mapping[str, str], columns: Sequence[Column], laid: Layout) -> Row:
    """A row of the task from a text of a check, filled with words; ValueError with a sentence where it does not fit."""
    inputs = {column.role: column for column in columns if not column.target}
    needed = [role for role, column in inputs.items() if not column.optional]
    if isinstance(text, str):
        if len(needed) != 1:
            raise ValueError(f"is one text, but a row needs several: write a mapping of {', '.join(needed)}")
        text = {needed[0]: text}
    strange = [role for role in text if role not in inputs]
    if strange:
        raise ValueError(f"'{strange[0]}' is no column of the task. {nearest(strange[0], inputs)}")
    missing = [role for role in needed if role not in text]
    if missing:
        raise ValueError(f"has no {' and no '.join(missing)}")
    filled = {role: SLOT.sub(lambda found: words[found[1]], one) for role, one in text.items()}
    return {role: column.parse(filled.get(role)) for role, column in inputs.items()}


def misfits(checks: Checks, task: Task, laid: Layout) -> list[Fault]:
    """What of the checks does not fit the task: texts that make no row of it, answers that it does not know."""
    faults: list[Fault] = []
    columns = task.columns()
    for number, check in enumerate(checks.file.checks):
        words = {name: checks.file.slots[name][0] for text in check.texts for name in slots_of(text)}
        row: Row | None = None
        for place, text in enumerate(check.texts):
            try:
                row = row_of(text, words, columns, laid)
            except ValueError as error:
                faults.append((("checks", number, "texts", place), str(error)))
        if check.kind == "minimum" and row is not None:
            faults += [(("checks", number, "answer"), what) for what in _wrong_answer(check, row, task)]
        if check.kind == "direction":
            faults += [(("checks", number), what) for what in _wrong_direction(check, laid)]
    return faults


def with_answer(row: Row, answer: Any, task: Task) -> Row:
    """A row with its right answer; ValueError where the task can't read it."""
    target = next(column for column in task.columns() if column.target)
    return {**row, target.role: target.parse(answer)}


def _wrong_answer(check: Check, row: Row, task: Task) -> Iterator[str]:
    try:
        task.truths([with_answer(row, check.answer, task)])
    except UserError as error:
        yield error.message
    except ValueError as error:
        yield str(error)


def _wrong_direction(check: Check, laid: Layout) -> Iterator[str]:
    if laid.number and check.of is not None:
        yield "`of` names a class, but the task answers a number: leave it out"
    elif laid.labels and check.of is None:
        yield f"`of` must name the class whose score moves. {nearest('', laid.labels)}"
    elif laid.labels and check.of not in laid.labels:
        yield f"`of` is '{check.of}', which is no class. {nearest(str(check.of), laid.labels)}"
    elif not laid.labels and not laid.number:
        yield "a direction needs a task that answers a class or a number"


def _strangers(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Slots that are used and not given, empty ones, and names of checks that are taken."""
    slots, checks = _mapping(values.get("slots")), values.get("checks")
    yield from ((("slots", name), "has no words") for name, words in slots.items() if words == [])
    checks = checks if isinstance(checks, list) else []
    names = Counter(str(check.get("name")) for check in checks if isinstance(check, dict))
    for number, check in enumerate(checks):
        if not isinstance(check, dict):
            continue
        if "name" in check and names[str(check["name"])] > 1:
            yield ("checks", number, "name"), f"'{check['name']}' is the name of another check too"
        texts = check.get("texts")
        for place, text in enumerate(texts if isinstance(texts, list) else []):
            if isinstance(text, str | dict):
                for name in slots_of(text):
                    if name not in slots:
                        yield ("checks", number, "texts", place), f"{{{name}}} is no slot. {nearest(name, slots)}"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
