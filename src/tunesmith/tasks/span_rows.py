"""Answers as files hold them: read from a cell, and placed in their context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.core import column
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, raise_faults
from tunesmith.core.rows import line_of

Span = tuple[int, int]
"""First and last token; or characters, from the first up to (without) the second."""


def parse(value: object) -> list[dict[str, Any]]:
    """The answers of a cell, each with its `start` (None where the file names none) and `text`; none: no answer.

    Read are SQuAD's {"text": [...], "answer_start": [...]}, a list of objects with `text` and `answer_start` or
    `start`, and one text. Anything else raises ValueError with a sentence.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, Mapping):
        value = _objects(value)
    if isinstance(value, str):
        value = [{"text": value}]
    if not isinstance(value, list):
        raise ValueError('is neither a text, nor a list of answers, nor {"text": […], "answer_start": […]}')
    return [_answer(one) for one in value]


def place(context: str, answers: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Where the answers stand in their context, in characters; without an offset, where the text first occurs.

    A text that does not stand where it should raises ValueError, with what stands there.
    """
    return [_place(context, answer["text"], answer["start"]) for answer in answers]


def placed(question: Any, context: Any, answers: Any) -> list[Span] | None:
    """Where the answers of a raw row stand; None where it is no row of this task."""
    try:
        column.text(question)
        return place(column.text(context), parse(answers))
    except ValueError:
        return None


@dataclass
class Counts:
    """How many rows there are; how many have no answer, an answer without an offset, several answers."""

    rows: int = 0
    silent: int = 0
    unplaced: int = 0
    several: int = 0


def survey(rows: Iterable[Row]) -> Counts:
    """Count rows by their answers. Answers that don't stand in their contexts raise one DataError."""
    counts, faults = Counts(), []
    for row in rows:
        answers = row["answers"]
        counts.rows += 1
        counts.silent += not answers
        counts.several += len(answers) > 1
        counts.unplaced += any(answer["start"] is None for answer in answers)
        try:
            place(row["context"], answers)
        except ValueError as error:
            faults.append(f"line {line_of(row) or counts.rows}, answers: {error}")
    hint = "An offset counts the characters of the context from 0."
    raise_faults(DataError, "These answers don't stand in their contexts:", faults, hint=hint)
    return counts


def _objects(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts, starts = value.get("text"), value.get("answer_start", value.get("start"))
    if not isinstance(texts, list):
        return [dict(value)]
    starts = [None] * len(texts) if starts is None else starts
    if not isinstance(starts, list) or len(starts) != len(texts):
        told = len(starts) if isinstance(starts, list) else "no list of"
        raise ValueError(f"has {len(texts)} texts but {told} offsets")
    return [{"text": text, "start": start} for text, start in zip(texts, starts, strict=True)]


def _answer(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise ValueError("holds an answer without a text")
    text, start = value["text"], value.get("answer_start", value.get("start"))
    if not text.strip():
        raise ValueError("holds a blank answer: give an empty list where there is none")
    if start is not None and (isinstance(start, bool) or not isinstance(start, int) or start < 0):
        raise ValueError(f"has an offset that is no whole number from 0 on: {start!r}")
    return {"start": start, "text": text}


def _place(context: str, text: str, start: int | None) -> Span:
    found = context.find(text)
    if start is None and found < 0:
        raise ValueError(f"'{_short(text)}' does not stand in the context")
    if start is not None and context[start : start + len(text)] != text:
        there = _short(context[start : start + len(text)])
        where = f"it stands at {found}" if found >= 0 else "it stands nowhere in the context"
        raise ValueError(f"at {start} of the context stands '{there}', not '{_short(text)}' ({where})")
    start = found if start is None else start
    return start, start + len(text)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
