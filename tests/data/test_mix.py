"""Several training files: read alike, checked together, each row with its file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import Write
from tests.data.roles import LABEL, SCORE, TEXT
from tunesmith.core.column import Column
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Bars, Table
from tunesmith.core.rows import each, take
from tunesmith.data import near_splits, slices
from tunesmith.data.load import Splits, load
from tunesmith.data.settings import DataSettings

A = "text,label\na one,x\na two,x\na three,y\na four,y\n"


def empty_or_text(value: object) -> str | None:
    return None if value in (None, "") else str(value)


PAIR = Column("pair", None, ("pair",), empty_or_text, optional=True)


def mixed(train: Path, *more: Path, columns: list[Column] | None = None, **settings: Any) -> Splits:
    given = {"validation": None, "test": None, **settings}
    mix = [{"file": str(path)} for path in more]
    return load(DataSettings.model_validate({"train": str(train), "mix": mix, **given}), columns or [TEXT, LABEL])


def test_the_rows_stand_one_file_after_another(write: Write) -> None:
    first = write("a.csv", A)
    second = write("b.jsonl", '{"sentence": "b one", "intent": "y"}\n{"sentence": "b two", "intent": "z"}\n' * 2)
    with listening() as said:
        splits = mixed(first, second)
    rows = list(each(splits.train))
    assert [row["text"] for row in rows] == ["a one", "a two", "a three", "a four", *["b one", "b two"] * 2]
    assert [(row["line"], row["file"]) for row in rows[3:6]] == [(5, str(first)), (1, str(second)), (2, str(second))]
    assert take(splits.train, [5, 0, 5]) == [rows[5], rows[0], rows[5]]
    assert f"Columns of {second}: text = 'sentence', label = 'intent'." in said
    assert "Rows: 8 train." in said
    assert splits.columns == {"text": "text", "label": "label"}
    assert splits.sources == {
        "train": {"path": str(first), "sha256": hashlib.sha256(first.read_bytes()).hexdigest(), "rows": 4},
        "mix.0": {"path": str(second), "sha256": hashlib.sha256(second.read_bytes()).hexdigest(), "rows": 4},
    }
    (bars,) = [panel for panel in splits.panels if panel.title == "Rows of each class"]
    assert isinstance(bars, Bars)
    assert (bars.labels, list(bars.series["train"])) == (["y", "x", "z"], [4, 2, 2])
    (table,) = [panel for panel in splits.panels if panel.title == "Splits"]
    assert isinstance(table, Table) and table.rows == [["train", 8, f"{first}, {second}"]]


def test_shares_are_split_off_the_first_file_alone(write: Write) -> None:
    first = write("a.csv", "text,label\n" + "".join(f"first {n},{'xy'[n % 2]}\n" for n in range(200)))
    second = write("b.csv", "text,label\n" + "".join(f"second {n},{'xy'[n % 2]}\n" for n in range(200)))
    alone, splits = (mixed(first, *more, validation=0.2, test=0.2) for more in ([], [second]))
    assert splits.validation is not None and alone.validation is not None
    assert splits.test is not None and alone.test is not None
    assert (splits.validation[:], splits.test[:]) == (alone.validation[:], alone.test[:])
    assert len(splits.train) == len(alone.train) + 200
    assert splits.sources["train"] == alone.sources["train"]
    assert splits.sources["mix.0"]["rows"] == 200


def test_held_out_rows_that_stand_in_any_file_are_dropped(write: Write) -> None:
    first, second = write("a.csv", A), write("b.csv", "text,label\nb one,y\nheld,x\n")
    test = write("test.csv", "text,label\nheld,x\nnew,y\n")
    with listening() as said:
        splits = mixed(first, second, test=str(test))
    assert splits.test is not None and splits.test["text"] == ["new"]
    leak = "test: 1 row stands in train too, word for word; the first is line 2 (there line 3"
    assert f"{leak} of {second}): dropped." in said


def test_texts_with_different_answers_are_found_between_files(write: Write) -> None:
    first, second = write("a.csv", A), write("b.csv", "text,label\nb one,y\na three,x\n")
    with listening() as said:
        mixed(first, second)
    lines = f"lines 4 of {first} and 3 of {second}"
    assert f"1 training text stands with different answers, the first in {lines}." in said


@pytest.mark.parametrize("least", [1, 2_000])
def test_near_repetitions_of_any_file_are_found(write: Write, monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    monkeypatch.setattr(slices, "WORTH_KEEPING", least)
    monkeypatch.setattr(near_splits, "WORTH_KEEPING", least)
    first, second = write("a.csv", A), write("b.csv", "text,label\nb one,y\nwhere is my green lamp,x\n")
    test = write("test.csv", "text,label\nf,x\nWhere is my green lamp?,x\n")
    for _ in range(2):
        with listening() as said:
            splits = mixed(first, second, test=str(test))
        assert f"the first in test line 3 (training line 3 of {second}): kept" in said[-1]
    table = splits.panels[-1]
    assert isinstance(table, Table) and table.rows[0][3] == f"3 of {second}"


def test_faults_of_all_files_come_together(write: Write) -> None:
    first, second = write("a.csv", f"{A}alone\n"), write("b.csv", "text,label\nb one,y\n,x\n")
    third = write("c.csv", "body,label\nc,y\n")
    with pytest.raises(DataError) as found:
        mixed(first, second, third)
    message = str(found.value)
    assert f"{first} has 1 fault:" in message and "line 6: 2 cells are expected, 1 found" in message
    assert f"{second} has 1 fault:" in message and "line 3, column 'text': is blank" in message
    assert f"{third} has 1 fault:" in message and "no column for the role 'text'" in message


def test_classes_are_checked_over_all_files(write: Write) -> None:
    # One class in each file, and one example in each, are fine together.
    first, second = write("a.csv", "text,label\na,x\nb,x\nc,z\n"), write("b.csv", "text,label\nd,y\ne,y\nf,z\n")
    assert len(mixed(first, second).train) == 6
    lonely = write("c.csv", "text,label\nd,y\ne,y\nf,z\ng,rare\n")
    says = rf"{first}, {lonely}: column 'label': class 'rare' has one example \(line 5 of {lonely}\)"
    with pytest.raises(DataError, match=says):
        mixed(first, lonely)
    test = write("test.csv", "text,label\nnew,y\n")
    assert mixed(first, second, test=str(test)).test is not None  # a class that the first file has not
    numbers = write("d.csv", "text,label\nd,1\ne,1\n")
    with pytest.raises(DataError, match=rf"has names in 3 rows .* but numbers in 2, the first in line 2 of {numbers}"):
        mixed(first, numbers)


def test_numbers_are_checked_over_all_files(write: Write) -> None:
    first, second = write("a.csv", "text,score\na,1\nb,1\n"), write("b.csv", "text,score\nc,2\nd,2\n")
    with pytest.raises(DataError, match="column 'score' is 1 in all 2 training rows"):
        mixed(first, columns=[TEXT, SCORE])
    splits = mixed(first, second, columns=[TEXT, SCORE])
    (bars,) = [panel for panel in splits.panels if panel.title == "Distribution of the target"]
    assert isinstance(bars, Bars) and sum(bars.series["train"]) == 4


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_column_that_one_file_lacks_is_empty_there(write: Write, order: tuple[int, int]) -> None:
    files = [write("a.csv", "text,pair,label\na,p,x\nb,,y\nc,q,y\n"), write("b.csv", "text,label\nb,x\nd,x\n")]
    with listening() as said:
        splits = mixed(*(files[place] for place in order), columns=[TEXT, PAIR, LABEL])
    pairs = {(row["text"], row["file"]): row["pair"] for row in each(splits.train)}
    assert [pairs["b", str(file)] for file in files] == [None, None]
    assert pairs["a", str(files[0])] == "p"
    # And so the texts of the two files are the same text.
    assert any("1 training text stands with different answers" in text for text in said)


def test_no_file_is_named_twice(write: Write) -> None:
    first, second = write("a.csv", A), write("b.csv", "text,label\nb one,y\n")
    with pytest.raises(DataError, match=r"data\.train and data\.mix\.0 are the same file") as found:
        mixed(first, first)
    assert "a greater weight gives more of it" in found.value.hint
    with pytest.raises(DataError, match=r"data\.mix\.0 and data\.mix\.1 are the same file"):
        mixed(first, second, second.parent / "." / "b.csv")
    with pytest.raises(DataError, match=r"data\.test and data\.mix\.0 are the same file") as found:
        mixed(first, second, test=str(second))
    assert found.value.hint == "Leave it out of data.mix."


def test_a_file_without_rows_is_refused(write: Write) -> None:
    first, second = write("a.csv", A), write("b.csv", "text,label\n")
    with pytest.raises(DataError, match=r"b\.csv"):
        mixed(first, second)


def test_files_that_rows_name_are_compared_by_their_bytes(write: Write) -> None:
    image, label = Column("image", None, ("image",), str, path=True), LABEL
    for name, content in (("p/one.png", b"1"), ("q/one.png", b"2"), ("q/again.png", b"1"), ("p/held.png", b"2")):
        write(name, content)
    first = write("p/a.csv", "image,label\none.png,x\none.png,x\n")
    second = write("q/b.csv", "image,label\none.png,y\nagain.png,y\n")
    test = write("p/test.csv", "image,label\nheld.png,x\none.png,y\n")
    with listening() as said:
        splits = mixed(first, second, columns=[image, label], test=str(test), leaks="keep")
    assert [row["image"] for row in each(splits.train)][2:] == [str(second.parent / name) for name in
                                                                ("one.png", "again.png")]  # fmt: skip
    assert f"(there line 2 of {second}): kept." in said[4]
    assert "different answers, the first in lines 3" in said[-1] and f"and 3 of {second}." in said[-1]
