"""Files that are no files of rows."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.data.conftest import Write
from tunesmith.core.errors import DataError
from tunesmith.data.opening import ending, inspect


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", ".csv"),
        ("A.CSV.GZ", ".csv"),
        ("a.jsonl.gz", ".jsonl"),
        ("a.parquet.gz", ""),
        ("a.txt.gz", ".txt"),
        ("a.doc", ""),
        ("a", ""),
    ],
)
def test_ending(name: str, expected: str) -> None:
    assert ending(Path(name)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.doc", "text\nx\n", r"ends in '\.doc'"),
        ("a.csv", "", "is empty"),
        ("a.csv", "\n  \n", "is empty"),
        ("a.csv", b"\xef\xbb\xbf", "is empty"),
        ("a.csv", '{"text": "x"}\n', r"holds JSON objects: let its name end in \.jsonl"),
        ("a.csv", gzip.compress(b"text\n", mtime=0), r"holds a gzip file: let its name end in \.gz"),
        ("a.csv", b"PK\x03\x04rest", "Excel workbook"),
        ("a.jsonl", b"PAR1rest", "holds a Parquet file"),
        ("a.csv", "text\nx\n".encode("utf-16"), "UTF-16"),
        ("a.jsonl", "text,label\nx,y\n", "looks like CSV"),
        ("a.jsonl", '[{"text": "x"}]', r"one JSON list: let its name end in \.json"),
        ("a.parquet", "text,label\n", "holds no Parquet data"),
        ("a.csv.gz", "text\nx\n", "it is no gzip file"),
    ],
)
def test_the_wrong_kind_of_file_is_named(write: Write, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        inspect(write(name, content))


def test_a_missing_file_brings_the_nearest_names(write: Write) -> None:
    path = write("reviews.csv", "text\nx\n")
    with pytest.raises(DataError, match=r"There is no file .*review\.csv\.\nhint: Did you mean reviews\.csv"):
        inspect(path.with_name("review.csv"))
    with pytest.raises(DataError, match=r"In .* there are: reviews\.csv"):
        inspect(path.with_name("xyz.parquet"))
    with pytest.raises(DataError, match="does not exist either"):
        inspect(path.parent / "nowhere" / "a.csv")


def test_a_folder_is_no_file(write: Write) -> None:
    folder = write("rows/a.csv", "text\nx\n").parent
    with pytest.raises(DataError, match=r"is a folder where a file is needed\.\nhint: Name one of its files: a\.csv"):
        inspect(folder)


def test_a_file_that_may_not_be_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.csv", "text\nx\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="permission denied"):
        inspect(path)
