"""Formats of rows for text generation: which one a file is in, how its cells are read, and a row as turns of a talk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from tunesmith.core import column
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, RecipeError, nearest
from tunesmith.core.rows import line_of

SHOWN_LINES = 10
ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
SHAREGPT_ROLES = {"system": "system", "human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"}
# What asks for a mask or a modality that is not read: leaving it out unsaid would train on something else.
UNREAD = ("tool_calls", "function_call", "weight", "train", "images", "reasoning_content", "thinking")
PAIRS = (
    ("prompt", ("completion", "response")),
    ("question", ("answer",)),
    ("source", ("target", "targets")),
    ("input", ("output",)),
    ("document", ("summary",)),
)
# Columns that belong to another task: a file that has one is not ours by its looks alone.
OTHERS = {"label", "labels", "score", "choices", "options", "chosen", "rejected", "context", "tokens", "tags", "spans"}
BESIDE = {"id", "line", "title", "url", "source", "date", "language"}
TALKS = ("messages", "conversations", "conversation", "dialogue", "talk", "turns")


class Turn(NamedTuple):
    """One turn of a talk: the role is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Format:
    """A way of writing rows: what it is, in a sentence, and the columns that it has."""

    told: str
    columns: tuple[Column, ...]


def talk(value: object, keys: tuple[str, str], roles: Mapping[str, str]) -> list[dict[str, str]]:
    """The turns of a cell that holds a list of objects, as {role, content}; a blank system text is left out.

    A talk may start with a system text; then the user and the assistant take turns, the user first. It may end with
    the user's turn, as in a file to predict on. Anything else raises ValueError.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"is not a list of turns but {_shown(value)}")
    found = [_turn(number, one, keys, roles) for number, one in enumerate(value, 1)]
    awaited = "user"
    for number, turn in enumerate(found, 1):
        if turn.role == "system" and number == 1:
            continue
        if not turn.content.strip():
            raise ValueError(f"turn {number}: the text of the {turn.role} is blank")
        if turn.role != awaited:
            raise ValueError(f"turn {number}: {_disorder(turn.role, found[: number - 1])}")
        awaited = "assistant" if awaited == "user" else "user"
    kept = [turn._asdict() for turn in found if turn.content.strip()]
    if kept[-1:] == [] or kept[-1]["role"] == "system":
        raise ValueError("holds no turn of the user")
    return kept


def references(value: object) -> list[str]:
    """Right answers: a text, or a list of texts of which the first is trained on and all are compared with."""
    several = value if isinstance(value, list) else [value]
    if value is None:
        raise ValueError("is missing")
    if not several:
        raise ValueError("is an empty list of answers")
    return [column.text(one) for one in several]


def perhaps(value: object) -> str:
    """A text that may be missing or blank: then it is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"is not a text but {_shown(value)}")
    return value if value.strip() else ""


_SYSTEM = Column("system", None, ("system", "system_prompt"), perhaps, optional=True)

FORMATS: dict[str, Format] = {
    "alpaca": Format(
        "an instruction, perhaps an input, and the output",
        (
            Column("instruction", None, ("instruction",), column.text),
            Column("input", None, ("input", "context"), perhaps, optional=True),
            Column("output", None, ("output", "response"), column.text, target=True),
            _SYSTEM,
        ),
    ),
    "messages": Format(
        "a list of turns, each {role: system|user|assistant, content: text}",
        (Column("messages", None, TALKS, partial(talk, keys=("role", "content"), roles=ROLES), storage="turns"),),
    ),
    "conversations": Format(
        "a list of turns, each {from: system|human|gpt, value: text}",
        (
            Column(
                "conversations",
                None,
                ("conversations", *TALKS),
                partial(talk, keys=("from", "value"), roles=SHAREGPT_ROLES),
                storage="turns",
            ),
        ),
    ),
    "prompt_completion": Format(
        "a prompt and its completion, or a list of several right ones",
        (
            Column("prompt", None, tuple(asked for asked, _ in PAIRS), column.text),
            Column(
                "completion",
                None,
                tuple(name for _, names in PAIRS for name in names),
                references,
                storage="texts",
                target=True,
            ),
            _SYSTEM,
        ),
    ),
    "text": Format("raw text, a document a row", (Column("text", None, column.TEXT_NAMES, column.text),)),
}
"""The known formats, by the name that a recipe gives them."""


def recognise(names: Sequence[str], rows: Sequence[Row]) -> str | None:
    """The format of a file with these columns and first rows; None where it is none, or might be another task's."""
    lower = {name.lower(): name for name in reversed(names)}
    for name in TALKS:
        kind = _kind(rows, lower[name]) if name in lower else None
        if kind is not None:
            return kind
    if lower.keys() & (OTHERS - {"context"}):
        return None
    if "instruction" in lower and lower.keys() & {"output", "response"}:
        return "alpaca"
    pairs = [asked for asked, answers in PAIRS if asked in lower and lower.keys() & set(answers)]
    if pairs and "context" not in lower:
        return "prompt_completion"
    return "text" if "text" in lower and lower.keys() <= {"text", *BESIDE} else None


def refuse_pairs(task: Any, name: str) -> None:
    """Raise RecipeError for a setting of the task that an encoder-decoder of this name has no use for."""
    wrong = {
        "format": (task.format == "text", "raw text is learned by decoders"),
        "pack": (task.pack, "only examples of decoders are packed"),
        "loss_on": (task.loss_on == "all", "what it reads carries no loss"),
        "template": (task.template == "model", "it reads the question as it is, without a chat template"),
    }
    for key, (given, why) in wrong.items():
        if given:
            told = f"{name} is an encoder-decoder, for which '{str(getattr(task, key)).lower()}' is not: {why}."
            hint = f"Name a decoder such as builtin:tiny-llama, or set task.{key} otherwise."
            raise RecipeError(f"task.{key}: {told}", hint=hint)


def columns(format: str, named: Mapping[str, str]) -> list[Column]:
    """The columns of a format; `named` says which of the file's columns has a role, where the recipe does.

    A role that the format doesn't have raises RecipeError.
    """
    known = FORMATS[format].columns
    roles = [one.role for one in known]
    for role in named:
        if role not in roles:
            raise RecipeError(f"task.roles: the format '{format}' has no role '{role}'. {nearest(role, roles)}")
    return [replace(one, name=named.get(one.role)) for one in known]


def turns(row: Row, format: str, system: str = "") -> list[Turn]:
    """A parsed row as a talk, with its answer as the last turn where it has one.

    `system` is the system text of rows that have none of their own. Of several right answers the first is taken.
    Raw text is no talk: it raises KeyError.
    """
    if format in ("messages", "conversations"):
        talked = [Turn(one["role"], one["content"]) for one in row[format]]
    else:
        asked = {"alpaca": _instruction, "prompt_completion": _prompt}[format](row)
        answers = right(row, format)
        talked = [Turn("user", asked), *(Turn("assistant", answer) for answer in answers[:1])]
        system = row.get("system") or system
    if system and talked[0].role != "system":
        talked.insert(0, Turn("system", system))
    return talked


def right(row: Row, format: str) -> tuple[str, ...]:
    """The right answers of a parsed row; none where it is to be predicted."""
    if format == "alpaca":
        return (row["output"],) if "output" in row else ()
    if format == "prompt_completion":
        return tuple(row.get("completion", ()))
    last = row[format][-1]
    return (last["content"],) if last["role"] == "assistant" else ()


def refuse_unanswered(rows: Iterable[Row], format: str) -> None:
    """Raise DataError if rows to learn from end without an answer, with their number and the first lines."""
    total = 0
    lines: list[str] = []
    for row in rows:
        total += 1
        if not right(row, format):
            lines.append(line_of(row) or str(total))
    if not lines:
        return
    shown = ", ".join(lines[:SHOWN_LINES]) + (", …" if len(lines) > SHOWN_LINES else "")
    where = "line" if len(lines) == 1 else "lines"
    raise DataError(
        f"Rows to learn from must end with an answer: {len(lines):,} of {total:,} end with the user's turn "
        f"({where} {shown}).",
        hint="Let the last turn of every talk be the assistant's, or leave these rows out.",
    )


def _turn(number: int, value: object, keys: tuple[str, str], roles: Mapping[str, str]) -> Turn:
    who, what = keys
    if not isinstance(value, dict) or who not in value:
        raise ValueError(f"turn {number}: is not an object with '{who}' and '{what}' but {_shown(value)}")
    unread = next((key for key in UNREAD if value.get(key) is not None), None)
    if unread is not None:
        raise ValueError(f"turn {number}: has '{unread}', which is not read: only '{who}' and '{what}' are")
    role, content = value[who], value.get(what)
    if str(role) not in roles:
        raise ValueError(f"turn {number}: the role {_shown(role)} is unknown. {nearest(str(role), roles)}")
    if not isinstance(content, str):
        raise ValueError(f"turn {number}: '{what}' is not a text but {_shown(content)}")
    return Turn(roles[str(role)], content)


def _disorder(role: str, before: Sequence[Turn]) -> str:
    if role == "system":
        return "a system text may stand only at the start of a talk"
    if not any(turn.role == "user" for turn in before):
        return "the assistant speaks first: a talk starts with the user"
    return f"the {role} speaks twice in a row: user and assistant must take turns"


def _kind(rows: Sequence[Row], name: str) -> str | None:
    # How the first talk is spelled, whatever its column is called.
    first = next((row[name] for row in rows if isinstance(row.get(name), list) and row[name]), [None])[0]
    if not isinstance(first, dict):
        return None
    return "messages" if "role" in first else "conversations" if "from" in first else None


def _instruction(row: Row) -> str:
    return "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)


def _prompt(row: Row) -> str:
    return str(row["prompt"])


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "…"
