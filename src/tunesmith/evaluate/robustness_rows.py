"""Rows whose texts are changed while they are read, and whose labels follow.

What a task's columns say decides which texts are changed, which characters must stay, and which changes keep the label.
Of several texts in a row (a pair; a question and its context) all are changed, with the same draws.

*Words with a tag each* are changed within, never split, joined or taken away. *Answers that are spans of a text* stay
as they are, with the characters beside them; their offsets move with what is changed before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tunesmith.core.column import Column, Row
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Task
from tunesmith.core.rows import BLOCK, Rows, take
from tunesmith.evaluate.robustness_changes import CHANGES, Edit, Span, applied, edits, moved

CONTEXT = "context"
"""The role of the text in which spans stand."""


@dataclass(frozen=True)
class Layout:
    """What of a task's rows can be changed. texts: roles of texts. words: the role of words that have a tag each.
    spans: the role of spans of the context. labels: names of classes, empty where an answer is none. number: whether
    the answer is a number.
    """

    texts: tuple[str, ...]
    words: str | None = None
    spans: str | None = None
    labels: tuple[str, ...] = ()
    number: bool = False

    def suits(self, name: str) -> bool:
        """Whether a change keeps the labels of such rows.

        names: only where the answer is a class or a number. numbers: only where it is a class without a digit in its
        name, of a single text. sentence: only to a single text whose answer is a class or a number, and to a context.
        """
        if self.words is not None:
            return CHANGES[name].inside
        single, judged = len(self.texts) == 1, bool(self.labels) or self.number
        return {
            "names": judged,
            "numbers": bool(self.labels) and single and not any(one.isdigit() for one in "".join(self.labels)),
            "sentence": (judged and single) or self.spans is not None,
        }.get(name, True)

    def told(self, row: Row) -> str:
        """All texts of a row as one."""
        if self.words is not None:
            return " ".join(word.strip() for word in row[self.words])
        return " | ".join(row[role] for role in self.texts if row.get(role))

    def known(self) -> list[str]:
        """The names of the changes that suit."""
        return [name for name in CHANGES if self.suits(name)]


@dataclass(frozen=True)
class Changed:
    """Rows of a split at `places`, each changed when it is read: memory does not grow with the split."""

    rows: Rows
    places: Sequence[int]
    change: Callable[[Row, int], Row]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, places: slice | list[int]) -> Mapping[str, Sequence[Any]]:
        """The changed rows at these places, as columns."""
        chosen = self.places[places] if isinstance(places, slice) else [self.places[place] for place in places]
        rows = take(self.rows, list(chosen))
        return as_columns([self.change(row, place) for row, place in zip(rows, chosen, strict=True)])


@dataclass(frozen=True)
class Listed:
    """A few rows of our own."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: slice | list[int]) -> Mapping[str, Sequence[Any]]:
        """Rows at these places, as columns."""
        return as_columns(self.rows[places] if isinstance(places, slice) else [self.rows[place] for place in places])


def as_columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows of the same keys as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def layout(task: Task) -> Layout:
    """What of the task's rows can be changed; RecipeError, in a sentence, where nothing can."""
    columns = task.columns()
    targets = [column for column in columns if column.target]
    texts = tuple(column.role for column in columns if _is_text(column))
    words = next((column.level for column in targets if column.level), None)
    spans = next((column.role for column in targets if column.storage == "spans"), None)
    if task.reads != "text" or any(column.path for column in columns):
        raise _unsuited(task, "its rows hold files, and robustness changes texts")
    if any(column.storage == "turns" for column in columns):
        raise _unsuited(task, "its rows are talks, in which question and answer are one")
    if not targets:
        raise _unsuited(task, "its rows hold no answer apart from their texts")
    if not texts and words is None:
        raise _unsuited(task, "its rows have no text beside the answer")
    if spans is not None and CONTEXT not in texts:
        raise _unsuited(task, "its answers are spans of a text that has not the role 'context'")
    classes = any(column.classes for column in targets)
    labels = tuple(map(str, task.head().get("id2label", {}).values())) if classes else ()
    return Layout(texts, words, spans, labels, any(column.storage == "number" for column in targets))


def change_row(row: Row, laid: Layout, name: str, strength: float, seed: str) -> Row:
    """The row after a change, as `seed` says; the row itself where nothing is changed."""
    if laid.words is not None:
        found: Row = {laid.words: change_words(row[laid.words], name, strength, Random(seed))}
    elif laid.spans is not None and row.get(laid.spans):
        found = _with_spans(row, laid, name, strength, seed)
    else:
        texts = [CONTEXT] if name == "sentence" and laid.spans else laid.texts
        found = {
            role: applied(row[role], edits(CHANGES[name], row[role], strength, Random(seed)))
            for role in texts
            if row.get(role)
        }
    return row if all(row[role] == value for role, value in found.items()) else {**row, **found}


def change_words(words: Sequence[str], name: str, strength: float, draw: Random) -> list[str]:
    """As many words, changed within."""
    text, starts, end = " ".join(words), [], 0
    for word in words:
        starts.append(end)
        end += len(word) + 1
    found = edits(CHANGES[name], text, strength, draw)
    whole = applied(text, found)
    ends = [start + len(word) for start, word in zip(starts, words, strict=True)]
    return [whole[moved(found, start) : moved(found, end)] for start, end in zip(starts, ends, strict=True)]


def _with_spans(row: Row, laid: Layout, name: str, strength: float, seed: str) -> Row:
    assert laid.spans is not None
    context, answers = row[CONTEXT], row[laid.spans]
    starts = [context.find(one["text"]) if one["start"] is None else one["start"] for one in answers]
    kept: list[Span] = [(start - 1, start + len(one["text"]) + 1) for start, one in zip(starts, answers, strict=True)]
    asked = [] if name == "sentence" else [role for role in laid.texts if role != CONTEXT]
    found: list[Edit] = edits(CHANGES[name], context, strength, Random(seed), kept)
    moving = [{**one, "start": moved(found, start)} for start, one in zip(starts, answers, strict=True)]
    texts = {role: applied(row[role], edits(CHANGES[name], row[role], strength, Random(seed))) for role in asked}
    return {**texts, CONTEXT: applied(context, found), laid.spans: moving}


def changed_places(rows: Rows, places: Iterable[int], change: Callable[[Row, int], Row]) -> list[int]:
    """Those of the places whose rows a change changes."""
    found: list[int] = []
    waiting = list(places)
    for first in range(0, len(waiting), BLOCK):
        chosen = waiting[first : first + BLOCK]
        found += [place for row, place in zip(take(rows, chosen), chosen, strict=True) if change(row, place) != row]
    return found


def _is_text(column: Column) -> bool:
    return column.storage == "text" and not (column.target or column.path)


def _unsuited(task: Task, why: str) -> RecipeError:
    return RecipeError(
        f"Robustness can't be measured for the task '{task.word()}': {why}.", hint="Leave it out of `evaluate`."
    )
