"""What a file gives while it is read: numbered raw rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Numbered = tuple[int, dict[str, object]]


@dataclass(frozen=True)
class Source:
    """An open file: the names of its columns, and its rows, to be iterated once.

    unit: what the numbers count: lines of the file, or rows where lines mean nothing.
    """

    names: list[str]
    rows: Iterable[Numbered]
    unit: str = "line"
