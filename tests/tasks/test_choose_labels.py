"""Labels of multiple choice: what choices are, what a label names, which form a file's labels have."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tunesmith.core.errors import DataError
from tunesmith.tasks.choose_labels import choices, fits, learn, place_of, sentence


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ([1, 2.5], ["1", "2.5"]),
        ('["a", "b, c"]', ["a", "b, c"]),
        ("a, b", "is not a list of choices; in CSV write it as JSON"),
        (7, "is not a list of choices but 7"),
        (["a"], "has 1 of at least 2 choices"),
        (["a", " "], "choice 1 is no text or blank"),
        (["a", None], "choice 1 is no text or blank"),
        (["a", "b", "a "], "holds a choice twice: 'a'"),
    ],
)
def test_what_choices_are(value: object, expected: Any) -> None:
    if isinstance(expected, list):
        assert choices(value) == expected
        return
    with pytest.raises(ValueError, match=expected.replace("[", r"\[")):
        choices(value)


def test_letters_beyond_the_choices_name_none() -> None:
    assert [place_of(label, ["x", "y"], "letter") for label in ("a", "B.", "C", "AB", "1")] == [0, 1, None, None, None]
    assert [place_of(label, ["x", "y"], "number") for label in ("0", "1", "2", "-1", "٣")] == [0, 1, None, None, None]


def test_positions_are_counted_by_hand() -> None:
    rows = [{"choices": ["x", "y", "z"][: 2 + n % 2], "label": label} for n, label in enumerate("BCAC")]
    assert learn(rows, None) == ("letter", Counter({2: 2, 1: 1, 0: 1}))
    with pytest.raises(DataError, match=r"'B' names none of the 2 choices; allowed: the numbers 0 to 1\."):
        learn(rows, "number")


def test_only_the_first_faults_are_kept_and_all_are_counted() -> None:
    rows = [{"choices": ["x", "y"], "label": "7", "line": number + 2} for number in range(50)]
    with pytest.raises(DataError, match="and 30 more") as caught:
        learn(rows, None)
    assert "line 21" in caught.value.message and "line 22" not in caught.value.message


def test_what_is_allowed_is_told() -> None:
    row = {"choices": ["oak", "tin"], "label": "glass"}
    assert sentence(row, "letter").endswith("allowed: the letters A to B.")
    assert sentence(row, "text") == "The label 'glass' names none of the 2 choices; allowed: 'oak', 'tin'."


def test_a_raw_row_fits_by_its_columns() -> None:
    found = {"choices": "options", "label": "answer", "text": "question"}
    row = {"question": "q", "options": ["x", "y"], "answer": "y"}
    assert [fits(row, found, form) for form in ("number", "letter", "text")] == [False, False, True]
    assert not fits({**row, "question": " "}, found, "text") and not fits({}, found, "text")
