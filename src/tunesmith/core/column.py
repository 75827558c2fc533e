"""Columns of a row: which role each plays, how its values are read, and what is wrong with a bad one.

A parser takes the raw value of a cell and gives the value that the task works with, or raises ValueError with the
sentence that the user reads behind file, line and column. A task with a new kind of column brings its own parser.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
Storage = Literal["text", "texts", "number", "turns", "spans"]


TEXT_NAMES = ("text", "sentence", "sentence1", "premise", "question", "content", "message", "review", "body")
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
PAIR_NAMES = ("pair", "text2", "sentence2", "hypothesis", "text_b", "second")


@dataclass(frozen=True)
class Column:
    """One column that a task reads.

    role: the name that the task uses (`text`, `pair`, `label`, `score`).
    name: the file's column, where the recipe says it; None: found among `likely`, in that order.
    parse: raw value -> value; raises ValueError with a sentence.
    storage: how values are kept: a text, a list of texts, a number, turns of a talk (`role`, `content`), or spans of a
        text (`start`, `text`).
    target: True for what is to be predicted: not needed in a file that is only predicted on.
    classes: True where the values are names of classes, which must be at least two, each with two examples.
    optional: True where a file may lack it, and a row may leave it empty: `parse` is then given None.
    level: of a list, the role of the list that has as many items in every row; empty: there is none.
    path: True where the values are paths of files; they are read as whole paths, from the folder of the rows' file on.
    """

    role: str
    name: str | None
    likely: tuple[str, ...]
    parse: Callable[[object], Any]
    storage: Storage = "text"
    target: bool = False
    classes: bool = False
    optional: bool = False
    path: bool = False
    level: str = ""


def texts(name: str | None, pair: str | None) -> list[Column]:
    """The columns of a text and, where the recipe names one, of a second text that is read together with it."""
    found = [Column("text", name, TEXT_NAMES, text)]
    return found if pair is None else [*found, Column("pair", pair, PAIR_NAMES, text)]


def text(value: object) -> str:
    """A text that is not blank."""
    if not isinstance(value, str):
        raise ValueError(f"is not a text but {_shown(value)}")
    if not value.strip():
        raise ValueError("is blank")
    return value


def label(value: object) -> str:
    """The name of one class; whole numbers and truth values become their text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str):
        raise ValueError(f"is not the name of a class but {_shown(value)}")
    if not value.strip():
        raise ValueError("is blank")
    return value.strip()


def labels(value: object, separator: str = ",") -> list[str]:
    """The names of any number of classes: a list, or one text with `separator` between the names."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [name for name in value.split(separator) if name.strip()]
    if not isinstance(value, list):
        raise ValueError(f"is neither a list of class names nor a text but {_shown(value)}")
    names = [label(name) for name in value]
    if len(set(names)) < len(names):
        raise ValueError(f"names a class twice: {_shown(names)}")
    return names


def number(value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"is not a number but {_shown(value)}")
    try:
        found = float(value)
    except ValueError:
        raise ValueError(f"is not a number but {_shown(value)}") from None
    if not math.isfinite(found):
        raise ValueError(f"is not a finite number but {_shown(value)}")
    return found


def _shown(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "…"
