"""Every kind of file gives the same rows; every fault is found with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import Write
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.data.faults import Faults
from tunesmith.data.formats import stream

CSV = "text,label\nfine,good\n\nbad,poor\n"
ROWS = [{"text": "fine", "label": "good"}, {"text": "bad", "label": "poor"}]
LINES = "\n\n".join(json.dumps(row) for row in ROWS)


def rows_of(path: Path) -> tuple[list[str], list[tuple[int, dict[str, object]]], Faults]:
    faults = Faults(path)
    with stream(path, faults) as source:
        return source.names, list(source.rows), faults


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.csv", CSV, [2, 4]),
        ("a.csv", CSV.replace("\n", "\r\n"), [2, 4]),
        ("a.csv", b"\xef\xbb\xbf" + CSV.encode(), [2, 4]),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0), [2, 4]),
        ("a.tsv", CSV.replace(",", "\t"), [2, 4]),
        ("a.jsonl", LINES, [1, 3]),
        ("a.ndjson.gz", gzip.compress(LINES.encode(), mtime=0), [1, 3]),
        ("a.json", json.dumps(ROWS), [1, 2]),
    ],
)
def test_every_kind_gives_the_same_rows(write: Write, name: str, content: str | bytes, lines: list[int]) -> None:
    names, rows, faults = rows_of(write(name, content))
    assert names == ["text", "label"]
    assert rows == list(zip(lines, ROWS, strict=True))
    assert faults.kept == []


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    names, rows, _ = rows_of(path)
    assert (names, rows) == (["text", "label"], [(1, ROWS[0]), (2, ROWS[1])])
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="damaged Parquet file"):
        rows_of(path)


def test_a_byte_order_mark_is_said_once(write: Write) -> None:
    path = write("marked.csv", b"\xef\xbb\xbf" + CSV.encode())
    with listening() as said:
        rows_of(path)
        rows_of(path)
    assert [text for text in said if "byte-order mark" in text] == said
    assert len(said) == 1


def test_a_row_over_several_lines_is_called_by_its_first(write: Write) -> None:
    _, rows, _ = rows_of(write("a.csv", 'text,label\n"one\ntwo",x\nthree,y\n'))
    assert rows == [(2, {"text": "one\ntwo", "label": "x"}), (4, {"text": "three", "label": "y"})]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,label\na,b,c\ne,f\n", ["line 2: 2 cells are expected, 3 found"]),
        ("a.csv", "text,label\na,b\nd\n", ["line 3: 2 cells are expected, 1 found"]),
        ("a.csv", b"text,label\ngood,x\ncaf\xe9,y\n", ["line 3, byte 21: is not UTF-8 (0xe9)"]),
        ("a.csv", "text,label\na\0b,c\n", ["line 2: holds a NUL byte"]),
        ("a.csv", 'text,label\n"a,b\nc,d\n', ["line 2: a quotation mark opened here is never closed"]),
        ("a.csv", 'text,label\n"a" b,c\nd,e\n', ["line 2: text stands behind a closing quotation mark"]),
        ("a.csv", "text,label\ra,b\rc,d", ["line 1: a bare carriage return stands outside quotation marks"]),
        ("a.csv", "text,text\na,b\n", ["line 1: the header names column 'text' 2 times"]),
        ("a.csv", ",text\n0,b\n", ["line 1: column 1 of the header has no name"]),
        ("a.csv", "text,label\n", ["it has no rows, only a header"]),
        ("a.csv", "text;label\na;b\n", ["line 1: the header is separated by semicolons, not by commas"]),
        ("a.csv", "text\tlabel\na\tb\n", ["line 1: the header is separated by tabs, not by commas"]),
        ("a.tsv", "text,label\na,b\n", ["line 1: the header is separated by commas, not by tabs"]),
        ("a.jsonl", '{"text": "a"}\n{"text": }\n', ["line 2, character 10: broken JSON: Expecting value"]),
        ("a.jsonl", '{"text": "a"}\n["a"]\n', ["line 2: is not an object but a list"]),
        ("a.jsonl", '{"text": "a"}\n\n3\n', ["line 3: is not an object but a number"]),
        ("a.jsonl", '{"text": "\\ud800"}\n', ["line 1: holds half of a surrogate pair (\\ud800 to \\udfff)"]),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ["line 2, byte 24: is not UTF-8 (0xff)"]),
        ("a.json", '[{"text": "a"}, 3]', ["row 2: is not an object but a number"]),
        ("a.json", '[{"text": "a"},\n {"text" "b"}]', ["line 2, character 10: broken JSON: Expecting ':' delimiter"]),
    ],
)  # fmt: skip
def test_faults_are_named_with_their_lines(write: Write, name: str, content: str | bytes, expected: list[str]) -> None:
    _, _, faults = rows_of(write(name, content))
    assert faults.kept == expected


def test_numbers_and_brackets_without_end_are_faults(write: Write) -> None:
    _, _, faults = rows_of(write("a.jsonl", '{"a": ' + "9" * 5000 + "}\n" + '{"a": ' + "[" * 100_000 + "\n"))
    assert [fault[:20] for fault in faults.kept] == ["line 1: broken JSON:", "line 2: broken JSON:"]


def test_json_that_is_no_list(write: Write) -> None:
    with pytest.raises(DataError, match="holds one object and not a list of objects"):
        rows_of(write("a.json", '{"data": []}'))
    _, _, faults = rows_of(write("b.json", LINES))
    assert "Extra data" in faults.kept[0]
    assert ".jsonl" in faults.hint


def test_a_gzip_file_that_was_cut_off(write: Write) -> None:
    packed = gzip.compress("\n".join(["text", *map(str, range(50_000))]).encode())
    _, rows, faults = rows_of(write("a.csv.gz", packed[: len(packed) // 2]))
    assert "damaged or cut off" in faults.kept[-1]
    assert rows


def test_a_long_cell_is_read(write: Write) -> None:
    _, rows, faults = rows_of(write("a.csv", "text\n" + "x" * 200_000 + "\n"))
    assert len(str(rows[0][1]["text"])) == 200_000
    assert not faults.total
