"""From settings to splits."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.data.conftest import Write
from tests.data.roles import LABEL, SCORE, TAGS, TEXT
from tunesmith.core.column import Column
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Bars, Panel, Result, Table
from tunesmith.data import near, near_splits, slices
from tunesmith.data.load import load
from tunesmith.data.settings import DataSettings
from tunesmith.data.split import side


def titled(panels: list[Panel], title: str) -> Panel:
    return next(panel for panel in panels if panel.title == title)


def test_shares_are_split_off_and_said(write: Write) -> None:
    content = "text,intent\n" + "".join(f"text number {row},{'xyz'[row % 3]}\n" for row in range(300))
    path = write("a.csv", content)
    with listening() as said:
        splits = load(DataSettings(train=str(path), near_duplicates=False), [TEXT, LABEL])
    assert splits.validation is not None and splits.test is not None
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    for name, rows in parts.items():
        assert all(side(row["text"], seed=0, validation=0.1, test=0.1) == name for row in rows)
    assert sum(map(len, parts.values())) == 300
    assert splits.train[0]["line"] - 2 == int(splits.train[0]["text"].split()[-1])
    assert splits.columns == {"text": "text", "label": "intent"}
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert splits.sources["test"] == {"path": str(path), "sha256": digest, "rows": len(splits.test)}
    assert said[0] == f"Columns of {path}: text = 'text', label = 'intent'."
    counts = f"{len(splits.train)} train, {len(splits.validation)} validation, {len(splits.test)} test"
    assert said[1] == f"Rows: {counts} (split off {path} by content, seed 0)."
    bars = titled(splits.panels, "Rows of each class")
    assert isinstance(bars, Bars)
    assert sum(bars.series["test"]) == len(splits.test)


def test_splits_may_be_left_out(write: Write) -> None:
    path = write("a.csv", "text,label\na,x\nb,x\nc,y\nd,y\n")
    splits = load(DataSettings(train=str(path), validation=None, test=None), [TEXT, LABEL])
    assert (len(splits.train), splits.validation, splits.test) == (4, None, None)


def test_scores_are_shown_as_a_histogram(write: Write) -> None:
    path = write("a.csv", "text,score\n" + "".join(f"text {row},{row}\n" for row in range(100)))
    splits = load(DataSettings(train=str(path), validation=None, test=None), [TEXT, SCORE])
    bars = titled(splits.panels, "Distribution of the target")
    assert isinstance(bars, Bars)
    assert list(bars.series["train"]) == [5] * 20
    assert bars.labels[0] == "0 to 4.95"


def test_rows_with_several_classes(write: Write) -> None:
    lines = [{"text": f"text {row}", "label": [["x"], ["x", "y"], []][row % 3]} for row in range(60)]
    path = write("a.jsonl", "\n".join(map(json.dumps, lines)))
    splits = load(DataSettings(train=str(path), validation=0.3, test=None), [TEXT, TAGS])
    bars = titled(splits.panels, "Rows of each class")
    assert isinstance(bars, Bars)
    assert [sum(bars.series[name][place] for name in bars.series) for place in (0, 1)] == [40, 20]


def test_near_repetitions_are_said_and_shown(write: Write) -> None:
    train = write("train.csv", "text,label\nwhere is my green lamp,x\nb,x\nc,y\nd,y\n")
    test = write("test.csv", "text,label\nf,x\nWhere is my green lamp?,x\n")
    with listening() as said:
        splits = load(DataSettings(train=str(train), validation=None, test=str(test)), [TEXT, LABEL])
    assert said[-1].startswith(
        "1 test row repeats a training row nearly, the first in test line 3 (training line 2): kept"
    )
    table = titled(splits.panels, "Rows that nearly repeat a training row")
    assert isinstance(table, Table)
    assert table.rows == [["test", 3, "Where is my green lamp?", 2, "where is my green lamp"]]
    json.dumps(Result(panels=splits.panels).as_json())


def test_near_repetitions_are_capped_and_that_is_said(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.data.near_splits.MOST_HELD", 1)
    train = write("train.csv", "text,label\nwhere is my green lamp,x\nb,x\nc,y\nd,y\n")
    test = write("test.csv", "text,label\nf,x\nWhere is my green lamp?,x\n")
    with listening() as said:
        load(DataSettings(train=str(train), validation=None, test=str(test)), [TEXT, LABEL])
    assert "The first 1 rows of each held-out split" in said[-1]


def test_contradictions_are_warned_of(write: Write) -> None:
    path = write("a.csv", "text,label\na,x\nb,x\na,y\nd,y\n")
    with listening() as said:
        splits = load(DataSettings(train=str(path), validation=None, test=None), [TEXT, LABEL])
    assert "1 training text stands with different answers, the first in lines 2 and 4." in said
    table = titled(splits.panels, "Repeated texts")
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == [1, 1]


def test_faults_of_all_files_come_together(write: Write) -> None:
    train, test = write("train.csv", 'text,label\n" ",x\n'), write("test.csv", "text,label\na,b,c\n")
    with pytest.raises(DataError, match=r"(?s)line 2, column 'text': is blank.*line 2: 2 cells are expected, 3 found"):
        load(DataSettings(train=str(train), test=str(test)), [TEXT, LABEL])


def test_twenty_thousand_rows(write: Write) -> None:
    path = write(
        "a.csv", "text,label\n" + "".join(f"text {row} of many {row * 7},{row % 4}\n" for row in range(20_000))
    )
    splits = load(DataSettings(train=str(path)), [TEXT, LABEL])
    assert splits.validation is not None and splits.test is not None
    lines = [line for part in (splits.train, splits.validation, splits.test) for line in part["line"]]
    assert sorted(lines) == list(range(2, 20_002))


@pytest.mark.parametrize("column", [LABEL, SCORE, TAGS], ids=["classes", "numbers", "several"])
def test_what_was_found_out_once_is_kept(write: Write, monkeypatch: pytest.MonkeyPatch, column: Column) -> None:
    monkeypatch.setattr(slices, "WORTH_KEEPING", 1)
    monkeypatch.setattr(near_splits, "WORTH_KEEPING", 1)
    words = [f"w{number * 7 % 13}\0" for number in range(30)]
    texts = [" ".join(words[row % 11 : row % 11 + 9 + row % 2]) + f" {row // 3}" for row in range(300)]
    values: dict[str, Any] = {"text": "xyz", "number": [1, 2, 3], "texts": [["x"], ["y", "z"], []]}
    answers = values[column.storage]
    rows = [{"text": text, column.role: answers[row % 3]} for row, text in enumerate(texts)]
    path = write("a.jsonl", "\n".join(map(json.dumps, rows)))
    made = []
    for function in ("scan", "pairs"):
        module = {"scan": slices, "pairs": near}[function]
        original = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *a, _f=original, **k: (made.append(_f), _f(*a, **k))[1])
    found = []
    for _ in range(2):
        with listening() as said:
            splits = load(DataSettings(train=str(path)), [TEXT, column])
        found.append((Result([], splits.panels).as_json(), said, splits.train[:], splits.sources))
    assert found[0] == found[1]
    assert any("nearly" in text for text in found[0][1])
    assert len(made) == 2
    for file in path.parent.glob("cache/*.npz"):
        file.write_bytes(b"damaged")
    again = load(DataSettings(train=str(path)), [TEXT, column])
    assert Result([], again.panels).as_json() == found[0][0] and len(made) == 4
