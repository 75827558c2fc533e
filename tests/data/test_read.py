"""Parsed rows, the cache, and faults of cells."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path

import pytest

from tests.data.conftest import Write
from tests.data.roles import LABEL, SCORE, TAGS, TEXT
from tunesmith.core import column
from tunesmith.core.column import Column, labels
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.data import cache
from tunesmith.data.read import glance, read, read_all


def test_values_are_parsed_and_lines_kept(write: Write) -> None:
    table = read(write("a.csv", "id,text,score\n1,fine,0.5\n\n2,bad,-1\n"), [TEXT, SCORE])
    assert table.rows[:] == {"text": ["fine", "bad"], "score": [0.5, -1.0], "line": [2, 4]}
    assert table.columns == {"text": "text", "score": "score"}


def test_lists_of_classes(write: Write) -> None:
    lines = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": "z"}, {"text": "c"}]
    table = read(write("a.jsonl", "\n".join(map(json.dumps, lines))), [TEXT, TAGS])
    assert table.rows["label"] == [["x", "y"], ["z"], []]


def test_faults_of_the_file_and_of_cells_come_together_in_their_order(write: Write) -> None:
    content = '{"text": "a", "label": "x"}\n{"text": " ", "label": null}\nbroken\n{"label": "y"}\n'
    with pytest.raises(DataError) as caught:
        read(write("a.jsonl", content), [TEXT, LABEL])
    assert caught.value.message.splitlines()[1:] == [
        "  - line 2, column 'text': is blank",
        "  - line 2, column 'label': is not the name of a class but null",
        "  - line 3, character 1: broken JSON: Expecting value",
        "  - line 4, column 'text': is missing",
    ]


def test_a_missing_column_does_not_hide_faults_of_rows(write: Write) -> None:
    with pytest.raises(DataError, match=r"(?s)no column for the role 'label'.*line 2, column 'text': is blank"):
        read(write("a.csv", 'text,other\n" ",x\n'), [TEXT, LABEL])


def test_a_number_too_large_is_a_fault(write: Write) -> None:
    with pytest.raises(DataError, match="row 1, column 'score'"):
        read(write("a.json", '[{"text": "a", "score": 1' + "0" * 400 + "}]"), [TEXT, SCORE])


def test_a_bad_file_leaves_nothing_in_the_cache(write: Write, own_cache: Path) -> None:
    with pytest.raises(DataError):
        read(write("a.csv", 'text,label\n" ",x\n'), [TEXT, LABEL])
    assert list(own_cache.iterdir()) == []


def test_targets_are_left_out_on_request(write: Write) -> None:
    assert read(write("a.csv", "text,label\na,\n"), [TEXT, LABEL], need_targets=False).rows.column_names == [
        "text",
        "line",
    ]


def test_the_cache_is_used_again_and_knows_the_parser(write: Write, own_cache: Path) -> None:
    path = write("a.csv", "text,label\na,x;y\nb,z\n")
    by_semicolon = Column("label", None, ("label",), partial(labels, separator=";"), storage="texts", target=True)
    first = read(path, [TEXT, TAGS])
    read(path, [TEXT, TAGS])
    assert len(list(own_cache.iterdir())) == 1
    assert first.rows["label"][0] == ["x;y"]
    assert read(path, [TEXT, by_semicolon]).rows["label"][0] == ["x", "y"]
    path.write_text("text,label\nc,x\n")
    assert read(path, [TEXT, TAGS]).rows["text"] == ["c"]
    assert len(list(own_cache.iterdir())) == 3


def test_parsers_that_close_over_different_values_differ() -> None:
    def parser(length: int) -> Column:
        return Column("text", None, ("text",), lambda value: str(value)[:length])

    names = [cache.name("digest", [parser(length)], {"text": "text"}) for length in (1, 2, 1)]
    assert names[0] == names[2] != names[1]


def test_a_cache_that_cant_be_written_is_replaced_and_said_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.csv", "text,label\na,x\n")
    monkeypatch.setenv("TUNESMITH_CACHE", str(path / "below"))
    with listening() as said:
        tables = [read(path, [TEXT, LABEL]) for _ in range(2)]
    assert [len(table.rows) for table in tables] == [1, 1]
    assert len(said) == 1
    assert "can't be written" in said[0]


def test_faults_of_several_files_are_raised_together(write: Write) -> None:
    paths = {"train": write("a.csv", 'text\n" "\n'), "test": write("b.csv", "other\nx\n")}
    with pytest.raises(DataError, match=r"(?s)a\.csv has 1 fault:.*b\.csv has 1 fault:"):
        read_all(paths, [TEXT])


def test_twenty_thousand_rows_pass_through_in_batches(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.data.read.BATCH_CHARACTERS", 10_000)
    content = "text,label\n" + "".join(f"text {row},{row % 3}\n" for row in range(20_000))
    rows = read(write("a.csv.gz", gzip.compress(content.encode())), [TEXT, LABEL]).rows
    assert len(rows) == 20_000
    assert rows.table(slice(None)).column("text").num_chunks > 10
    assert rows[19_999] == {"text": "text 19999", "label": "1", "line": 20_001}


def test_a_column_may_be_missing_where_it_is_optional(write: Write) -> None:
    extra = Column("extra", None, ("extra",), lambda value: value or "", optional=True)
    path = write("a.jsonl", '{"text": "a"}\n{"text": "b", "extra": "c"}\n')
    assert read(path, [TEXT, extra]).rows["extra"] == ["", "c"]
    assert "extra" not in read(write("b.jsonl", '{"text": "a"}\n'), [TEXT, extra]).rows.column_names


def test_turns_and_spans_are_kept_as_they_are(write: Write) -> None:
    talk = Column("talk", None, ("talk",), lambda value: value, storage="turns")
    spans = Column("spans", None, ("spans",), lambda value: value, storage="spans")
    row = {"talk": [{"role": "user", "content": "hi"}], "spans": [{"start": 3, "text": "x"}]}
    assert read(write("a.jsonl", json.dumps(row)), [talk, spans]).rows[0] == {**row, "line": 1}


def test_paths_are_whole_and_lead_to_files(write: Write, tmp_path: Path) -> None:
    image = Column("image", None, ("image",), column.text, path=True)
    (tmp_path / "here.png").write_bytes(b"x")
    path = write("a.csv", "image\nhere.png\n")
    assert read(path, [image]).rows["image"] == [str((path.parent / "here.png").resolve())]
    (path.parent / "here.png").unlink()
    with pytest.raises(DataError, match="line 2, column 'image': names no file"):
        read(path, [image])


def test_a_glance_sees_columns_and_first_rows_alone(write: Write, own_cache: Path) -> None:
    good = write("a.csv", "text,label\na,x\nb,\n")
    glance(good, [TEXT, LABEL], rows=1)
    with pytest.raises(DataError, match="line 3, column 'label': is blank"):
        glance(good, [TEXT, LABEL])
    with pytest.raises(DataError, match="no column for the role 'score'"):
        glance(good, [TEXT, SCORE], rows=1)
    with pytest.raises(DataError, match=r"none\.csv"):
        glance(good.with_name("none.csv"), [TEXT])
    assert not list(own_cache.glob("*.arrow"))
