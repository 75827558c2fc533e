"""Markdown of texts that may hold anything: nothing of a text becomes markup, and no path of this machine is told."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

LONGEST = 200
"""Most characters of a text that are shown."""
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$])")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
PATH = re.compile(r"(?<![\w.:/\\])(?:~?/|[A-Za-z]:[\\/])(?:[^\s'\"/\\]+[\\/])*([^\s'\"/\\]*)")
"""An absolute path within a text; its last part is captured."""


def plain(text: object) -> str:
    """A text as one line without characters that are not shown; a long one is cut."""
    shown = (" " if unicodedata.category(one) in ("Cc", "Zl", "Zp") else one for one in str(text))
    # A text read from JSON may hold half a character, which no file can.
    line = " ".join("".join(one for one in shown if unicodedata.category(one) != "Cf").split())
    line = line.encode("utf-8", "replace").decode()
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def text(value: object) -> str:
    """A text in which no sign is markup, for a sentence or a cell.

    >>> print(text("a|b `c` <i>\\n---"))
    a\\|b \\`c\\` &lt;i&gt; \\-\\-\\-
    """
    shown = SPECIAL.sub(r"\\\1", plain(value))
    shown = shown.replace("--", "\\-\\-").replace("\\-\\--", "\\-\\-\\-")
    return "".join(ENTITIES.get(one, one) for one in shown)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers with four digits."""
    lines = [columns, ["---"] * len(columns), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(content: str, language: str) -> str:
    """A block of code in a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"


def number(value: float) -> str:
    """Four digits; thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def unplaced(value: Any) -> Any:
    """A value of a recipe with the last part alone in the place of every path of this machine."""
    if isinstance(value, dict):
        return {unplaced(key): unplaced(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [unplaced(inner) for inner in value]
    if not isinstance(value, str):
        return value
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(value).is_absolute() or value.startswith("~"):
            return kind(value).name or "…"
    return PATH.sub(r"\1", value)


def file_name(data: Mapping[str, Any], split: str) -> str:
    """What the file of a split is called, without its folders."""
    return plain(PureWindowsPath(str(data.get(split, {}).get("path", ""))).name or split)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return text(value)
