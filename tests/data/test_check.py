"""Faults over all rows."""

from __future__ import annotations

import pytest

from tests.data.conftest import Write
from tests.data.roles import LABEL, SCORE, TAGS, TEXT
from tunesmith.core.column import Column
from tunesmith.core.errors import DataError
from tunesmith.data.load import load
from tunesmith.data.settings import DataSettings

GOOD = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]


def faults(
    write: Write, train: list[tuple[str, str]], test: list[tuple[str, str]] | None = None, *, target: Column
) -> str:
    def file(name: str, rows: list[tuple[str, str]]) -> str:
        return str(write(name, f"text\t{target.role}\n" + "".join(f"{text}\t{value}\n" for text, value in rows)))

    held = file("test.tsv", test) if test else None
    with pytest.raises(DataError) as caught:
        load(DataSettings(train=file("train.tsv", train), validation=None, test=held), [TEXT, target])
    return caught.value.message


def test_numbers_and_names_in_one_column(write: Write) -> None:
    message = faults(
        write, [("a", "1"), ("b", "1"), ("c", "2"), ("d", "2"), ("e", "good"), ("f", "good")], target=LABEL
    )
    assert "column 'label' has numbers in 4 rows (such as '1') but names in 2, the first in line 6 ('good')" in message


def test_a_single_class(write: Write) -> None:
    assert "has the single class 'x': at least two are needed" in faults(write, [("a", "x"), ("b", "x")], target=LABEL)


def test_a_class_with_one_example(write: Write) -> None:
    assert "class 'z' has one example (line 6)" in faults(write, [*GOOD, ("e", "z")], target=LABEL)


def test_a_class_that_training_lacks(write: Write) -> None:
    train = [(text, {"x": "positive", "y": "negative"}[name]) for text, name in GOOD]
    message = faults(write, train, [("f", "positve"), ("g", "positve")], target=LABEL)
    assert "class 'positve' (2 rows of test, the first in line 2) does not occur in training" in message
    assert "did you mean 'positive'?" in message


def test_classes_of_rows_with_several(write: Write) -> None:
    message = faults(write, [("a", "x,y"), ("b", "x"), ("c", "y"), ("d", "x,z")], [("e", "w")], target=TAGS)
    assert "class 'z' has one example (line 5)" in message
    assert "class 'w' (1 row of test, the first in line 2)" in message


def test_equal_texts_and_constant_scores(write: Write) -> None:
    message = faults(write, [("a", "3"), ("a ", "3"), ("a", "3")], target=SCORE)
    assert "all 3 training rows have the same text in 'text'" in message
    assert "column 'score' is 3 in all 3 training rows" in message


def test_too_few_rows(write: Write) -> None:
    assert "the train split has 1 of the 1 rows" in faults(write, [("a", "x")], target=LABEL)


def test_an_empty_share(write: Write) -> None:
    path = write("a.csv", "text,label\na,x\nb,x\nc,y\nd,y\n")
    with pytest.raises(DataError, match=r"the test split has 0 of the 4 rows of .*a\.csv, and needs 1"):
        load(DataSettings(train=str(path), validation=None, test=0.001), [TEXT, LABEL])


def test_all_faults_come_together(write: Write) -> None:
    message = faults(write, [("a", "x"), ("a", "x"), ("a", "3")], [("f", "w")], target=LABEL)
    assert message.count("\n  - ") == 4
