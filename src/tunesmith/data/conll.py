"""Sentences of CoNLL files: a word a line, its columns between tabs or blanks, a blank line behind each sentence.

The first column is the word (`tokens`) and the last its tag (`tags`); those between are `column_2`, `column_3` and so
on. A file with one column has words alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from tunesmith.core.notes import note
from tunesmith.data.faults import Faults
from tunesmith.data.rows import Numbered, Source

DOCUMENT = "-DOCSTART-"
COMMENT = "#"
COLUMNS_HINT = (
    "Every line must be blank, or a word and its columns, all with the same separator and in the same number."
)


def source(text: Iterator[str], faults: Faults) -> Source:
    """The file's sentences as rows of lists, numbered by their first lines; its columns are those of its first word."""
    lines = _Lines(text, faults)
    names = lines.names
    return Source(names, lines.sentences())


def names_of(count: int) -> list[str]:
    """The names of so many columns.

    >>> names_of(4)
    ['tokens', 'column_2', 'column_3', 'tags']
    """
    between = [f"column_{number}" for number in range(2, count)]
    return ["tokens", *between, *(["tags"] if count > 1 else [])]


class _Lines:
    """The lines of a file, once the first word has told the separator (None: any blanks) and the number of columns."""

    def __init__(self, text: Iterator[str], faults: Faults) -> None:
        self._faults = faults
        self._separator: str | None = None
        self._skipped = {DOCUMENT: 0, COMMENT: 0}
        seen: list[str] = []
        first = ""
        for line in text:
            seen.append(line)
            if line.strip() and not line.startswith((DOCUMENT, f"{COMMENT} ")):
                first = line
                break
        # Where every line looks like a comment, they are none: their word is a number sign.
        first = first or next((line for line in seen if line.startswith(COMMENT)), "")
        self._separator = "\t" if "\t" in first else None
        self.names = names_of(len(self._cells(first)) or 1)
        self._text = chain(seen, text)

    def sentences(self) -> Iterator[Numbered]:
        """One row a sentence; a line with another number of columns is a fault."""
        start, empty = 0, True
        sentence: list[list[str]] = []
        for number, line in enumerate(chain(self._text, [""]), 1):
            cells = self._cells(line)
            if cells and not self._beside(line, cells, first=not sentence):
                start = start if sentence else number
                sentence.append(self._checked(cells, number))
            elif sentence and (not cells or line.startswith(DOCUMENT)):
                empty = False
                if all(sentence):
                    yield start, dict(zip(self.names, map(list, zip(*sentence, strict=True)), strict=True))
                sentence = []
        self._say()
        if empty:
            self._faults.add("it holds no sentence", hint=COLUMNS_HINT)

    def _cells(self, line: str) -> list[str]:
        line = line.rstrip("\r\n")
        if not line.strip():
            return []
        # Blanks and tabs alone: other space may be a word.
        if self._separator:
            return [part.strip(" ") for part in line.split(self._separator)]
        return [part for part in line.replace("\t", " ").split(" ") if part]

    def _beside(self, line: str, cells: list[str], first: bool) -> bool:
        """Whether a line is no word: the start of a document, or, before a sentence, a comment."""
        found = ""
        if line.startswith(DOCUMENT):
            found = DOCUMENT
        elif first and line.startswith(f"{COMMENT} ") and len(cells) != len(self.names):
            found = COMMENT
        if found:
            self._skipped[found] += 1
        return bool(found)

    def _checked(self, cells: list[str], number: int) -> list[str]:
        """The cells; none where they are not as many as the columns, or one is empty, which is a fault."""
        wanted = len(self.names)
        if len(cells) != wanted:
            expected = "1 column is" if wanted == 1 else f"{wanted} columns are"
            self._faults.add(f"line {number}: {expected} expected, {len(cells)} found", at=number, hint=COLUMNS_HINT)
        elif not all(cells):
            place = cells.index("") + 1
            self._faults.add(f"line {number}: column {place} is empty", at=number, hint=COLUMNS_HINT)
        return cells if len(cells) == wanted and all(cells) else []

    def _say(self) -> None:
        what = {DOCUMENT: f"{DOCUMENT} lines", COMMENT: "lines of comment"}
        found = [f"{count:,} {what[kind]}" for kind, count in self._skipped.items() if count]
        if found:
            _say(self._faults.path, " and ".join(found))


@cache
def _say(path: Path, found: str) -> None:
    note(f"{path}: {found} are left out.")
