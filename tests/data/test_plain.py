"""Plain text: a row a line, blank lines left out, numbers of lines kept."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.data.conftest import Write
from tunesmith.core.errors import DataError
from tunesmith.data.faults import Faults
from tunesmith.data.formats import stream
from tunesmith.data.plain import from_lines

LINES = 'Oak is hard.\n\n   \n  Pine, "soft", is light.\t\n{not: json}\n'


def rows_of(path: Path) -> tuple[list[str], list[tuple[int, dict[str, object]]], Faults]:
    faults = Faults(path)
    with stream(path, faults) as source:
        assert source.unit == "line"
        return source.names, list(source.rows), faults


def test_every_line_that_is_not_blank_is_a_row() -> None:
    assert list(from_lines(iter(["one\r\n", "\n", " \t\n", "two"]))) == [(1, {"text": "one"}), (4, {"text": "two"})]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", LINES),
        ("a.TXT", LINES.replace("\n", "\r\n")),
        ("a.txt", b"\xef\xbb\xbf" + LINES.encode()),
        ("a.txt.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.txt", LINES.rstrip("\n")),
    ],
)
def test_lines_keep_their_numbers_and_their_white_space(
    tmp_path: Path, write: Write, name: str, content: str | bytes
) -> None:
    names, rows, faults = rows_of(write(name, content))
    assert names == ["text"]
    # Neither commas, nor quotation marks, nor braces mean anything in plain text.
    assert rows == [
        (1, {"text": "Oak is hard."}),
        (4, {"text": '  Pine, "soft", is light.\t'}),
        (5, {"text": "{not: json}"}),
    ]
    assert faults.kept == []


def test_what_is_no_utf8_text_is_told_with_its_line(write: Write) -> None:
    _, _, faults = rows_of(write("a.txt", b"fine\ncaf\xe9\nNUL \0 byte\n"))
    assert [str(fault) for fault in faults.kept] == ["line 2, byte 8: is not UTF-8 (0xe9)", "line 3: holds a NUL byte"]


@pytest.mark.parametrize(
    ("content", "message"), [("\n \n", "is empty"), (b"PK\x03\x04rest", "Excel workbook"), (b"%PDF-1.7", "a PDF file")]
)
def test_a_file_without_text_is_refused(write: Write, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(write("a.txt", content))
