"""Answers of a file: every form that is read, and what is refused."""

from __future__ import annotations

import pytest

from tunesmith.core.errors import DataError
from tunesmith.tasks import span_rows

CONTEXT = "The oak table and the oak chair."


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"text": ["oak", "chair"], "answer_start": [4, 26]}, [(4, "oak"), (26, "chair")]),
        ({"text": [], "answer_start": []}, []),
        ({"text": ["oak"]}, [(None, "oak")]),
        ({"text": "oak", "start": 4}, [(4, "oak")]),
        ([{"text": "oak", "answer_start": 4}, {"text": "chair", "start": 26}], [(4, "oak"), (26, "chair")]),
        (["oak"], [(None, "oak")]),
        ("oak", [(None, "oak")]),
        ([], []),
        ("", []),
        (None, []),
    ],
)
def test_forms_that_are_read(value: object, expected: list[tuple[int | None, str]]) -> None:
    assert [(answer["start"], answer["text"]) for answer in span_rows.parse(value)] == expected


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (7, "is neither a text"),
        ({"text": ["oak", "chair"], "answer_start": [4]}, "has 2 texts but 1 offsets"),
        ({"text": ["oak"], "answer_start": 4}, "has 1 texts but no list of offsets"),
        ([{"answer_start": 4}], "without a text"),
        ([3], "without a text"),
        ([""], "a blank answer: give an empty list"),
        ([{"text": "oak", "answer_start": -1}], "no whole number from 0 on: -1"),
        ([{"text": "oak", "answer_start": "4"}], "no whole number from 0 on: '4'"),
        ([{"text": "oak", "answer_start": True}], "no whole number"),
    ],
)
def test_forms_that_are_refused(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        span_rows.parse(value)


def test_a_text_without_an_offset_stands_where_it_first_occurs() -> None:
    assert span_rows.place(CONTEXT, span_rows.parse(["oak", {"text": "oak", "start": 22}])) == [(4, 7), (22, 25)]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([{"text": "oak", "start": 5}], r"at 5 of the context stands 'ak ', not 'oak' \(it stands at 4\)"),
        ([{"text": "elm", "start": 900}], r"stands '', not 'elm' \(it stands nowhere in the context\)"),
        (["elm"], "'elm' does not stand in the context"),
        (["x" * 90], "'x{39}…' does not stand"),
    ],
)
def test_answers_that_stand_elsewhere_are_refused(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        span_rows.place(CONTEXT, span_rows.parse(value))


def test_a_survey_counts_and_names_every_fault() -> None:
    cells = ["oak", [], ["oak", "chair"], [{"text": "chair", "start": 26}]]
    rows = [{"line": n, "context": CONTEXT, "answers": span_rows.parse(cell)} for n, cell in enumerate(cells, 2)]
    assert span_rows.survey(rows) == span_rows.Counts(rows=4, silent=1, unplaced=2, several=1)
    wrong = [{**row, "context": "Nothing of it."} for row in rows]
    with pytest.raises(DataError) as caught:
        span_rows.survey(wrong)
    told = str(caught.value)
    assert "line 2, answers: 'oak' does not stand" in told and "line 4" in told and "line 5" in told
    assert "line 3" not in told and "counts the characters" in told
