"""Texts that stand more than once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.conftest import Write
from tests.data.roles import LABEL, TEXT
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.data.duplicates import Repeats, repeats
from tunesmith.data.load import Splits, load
from tunesmith.data.scan import Scan
from tunesmith.data.settings import DataSettings

TRAIN = "text,label\na,x\nb,x\nc,y\nd,y\ne,y\n"


def scan_of(keys: list[int], answers: list[int]) -> Scan:
    rows = np.arange(len(keys))
    return Scan(np.array(keys, np.uint64), np.array(answers, np.uint64), rows + 2, rows.astype(np.int32), rows)


def test_repetitions_and_contradictions_are_counted() -> None:
    found = repeats(scan_of([5, 7, 5, 9, 7, 5], [1, 1, 2, 1, 1, 1]))
    assert found == Repeats(rows=3, contradictions=1, lines=[(2, 4), (4, 7)])
    assert repeats(scan_of([1, 2], [1, 2])) == Repeats(0, 0, [])


def loaded(write: Write, leaks: str) -> Splits:
    settings = {
        "train": str(write("train.csv", TRAIN)),
        "validation": str(write("dev.csv", "text,label\nq,x\n c ,x\nr,y\ns,y\n")),
        "test": str(write("test.csv", "text,label\nr,y\na,x\nt,x\n")),
        "leaks": leaks,
    }
    return load(DataSettings.model_validate(settings), [TEXT, LABEL])


def test_leaks_are_dropped_counted_and_said(write: Write) -> None:
    with listening() as said:
        splits = loaded(write, "drop")
    assert splits.train["text"] == ["a", "b", "c", "d", "e"]
    assert splits.validation is not None and splits.validation["text"] == ["q", "s"]
    assert splits.test is not None and splits.test["text"] == ["r", "t"]
    assert [text for text in said if text.endswith("dropped.")] == [
        "validation: 1 row stands in train too, word for word; the first is line 3 (there line 4): dropped.",
        "test: 1 row stands in train too, word for word; the first is line 3 (there line 2): dropped.",
        "validation: 1 row stands in test too, word for word; the first is line 4 (there line 2): dropped.",
    ]


def test_leaks_are_kept_and_counted(write: Write) -> None:
    with listening() as said:
        splits = loaded(write, "keep")
    assert splits.test is not None and splits.test["text"] == ["r", "a", "t"]
    assert sum(text.endswith("kept.") for text in said) == 3


def test_leaks_are_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"(?s)more than one split:.*test: 1 row stands in train too.*leaks to drop"):
        loaded(write, "refuse")
