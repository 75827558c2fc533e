"""Rows of plain text files: every line that is not blank is a row with the one column `text`."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.data.rows import Numbered

NAMES = ["text"]


def from_lines(text: Iterator[str]) -> Iterator[Numbered]:
    """One row a line that is not blank, without the line's end."""
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, {"text": line.rstrip("\r\n")}
