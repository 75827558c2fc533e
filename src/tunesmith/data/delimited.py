"""Rows of CSV and TSV files: cells between separators, the first line names the columns, values are text."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from tunesmith.data.faults import Faults
from tunesmith.data.rows import Numbered

LONGEST_CELL = 1 << 24
MENDING = (
    "A cell that holds a separator, a line end or a quotation mark must stand in quotation marks, "
    'and a quotation mark inside it is written twice ("").'
)
SEPARATORS_HINT = "Commas are read from .csv, tabs from .tsv; save a file with semicolons anew as one of these."
# What the csv module says -> what the user reads.
SENTENCES = {
    "unexpected end of data": "a quotation mark opened here is never closed",
    "expected after": "text stands behind a closing quotation mark",
    "new-line character": "a bare carriage return stands outside quotation marks",
    "field larger": f"a cell has more than {LONGEST_CELL:,} characters: is a quotation mark never closed?",
}


class Delimited:
    """`names` of the header (empty where it is broken), and iteration over numbered rows."""

    def __init__(self, text: Iterator[str], separator: str, *, faults: Faults) -> None:
        # The module's own limit of 131,072 characters is less than a chapter; it has no setting for one reader alone.
        csv.field_size_limit(LONGEST_CELL)
        self._reader = csv.reader(text, delimiter=separator, strict=True)
        self._faults = faults
        self._records = self._numbered()
        line, header = next(self._records, (1, []))
        self.names = [name.strip() for name in header]
        self._check(line, separator)

    def __iter__(self) -> Iterator[Numbered]:
        """Rows with as many cells as the header; others are faults."""
        wanted = len(self.names)
        if not wanted:
            return
        for line, cells in self._records:
            if len(cells) == wanted:
                yield line, dict(zip(self.names, cells, strict=True))
            else:
                expected = "1 cell is" if wanted == 1 else f"{wanted} cells are"
                self._faults.add(f"line {line}: {expected} expected, {len(cells)} found", at=line, hint=MENDING)

    def _numbered(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            # A record may span several lines: it is called by its first.
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                found = (sentence for words, sentence in SENTENCES.items() if words in str(error))
                self._faults.add(f"line {line}: {next(found, str(error))}", at=line, hint=MENDING)
                continue
            if cells and not (len(cells) == 1 and not cells[0].strip()):
                yield line, cells

    def _check(self, line: int, separator: str) -> None:
        if len(self.names) == 1:
            other = {"\t": "tabs", ";": "semicolons", ",": "commas"}
            for character, word in other.items():
                if character in self.names[0] and character != separator:
                    fault = f"line {line}: the header is separated by {word}, not by {other[separator]}"
                    self._faults.add(fault, at=line, hint=SEPARATORS_HINT)
        for place, name in enumerate(self.names, 1):
            if not name:
                hint = "Give every column a name; pandas leaves out its nameless index with to_csv(…, index=False)."
                self._faults.add(f"line {line}: column {place} of the header has no name", at=line, hint=hint)
        for name in dict.fromkeys(self.names):
            if name and self.names.count(name) > 1:
                self._faults.add(
                    f"line {line}: the header names column '{name}' {self.names.count(name)} times", at=line
                )
