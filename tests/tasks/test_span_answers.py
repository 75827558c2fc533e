"""From scores to answers: several windows of a row, white space, no answer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tunesmith.core import tokens
from tunesmith.tasks import span_answers

CONTEXT = "red oak"
CHARACTERS = [[0, 0], [0, 3], [3, 7], [0, 0]]  # [none] "red" " oak" [end]


def fields(windows: int = 1, owners: tuple[int, ...] = (0,)) -> dict[str, Any]:
    return {
        "characters": torch.tensor([CHARACTERS] * windows),
        "silence": torch.zeros(windows, dtype=torch.long),
        "contexts": tokens.code_points([CONTEXT] * (max(owners) + 1)),
        "owners": torch.tensor(owners),
    }


def test_spans_by_hand() -> None:
    starts, ends = torch.tensor([[1.0, 5.0, 2.0, 9.0]]), torch.tensor([[1.5, 0.0, 3.0, 9.0]])
    (found,) = span_answers.read(starts, ends, fields(), 20, 30)
    # "red oak" 5 + 3, "red" 5 + 0, "oak" 2 + 3 (without the space that its token holds); never the end token's 9 + 9.
    assert found.texts == ("red oak", "red", "oak")
    assert found.spans == [(0, 7), (0, 3), (4, 7)]
    assert found.scores == [8.0, 5.0, 5.0]
    assert found.silence == 2.5 and found.difference == -5.5
    (short,) = span_answers.read(starts, ends, fields(), 20, 1)
    assert short.texts == ("red", "oak")
    (first,) = span_answers.read(starts, ends, fields(), 1, 30)
    assert first.texts == ("red oak",)


def test_windows_of_a_row_are_read_together() -> None:
    starts = torch.tensor([[0.0, 1.0, 0.0, 0.0], [3.0, 2.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]])
    found = span_answers.read(starts, torch.zeros(3, 4), fields(3, (0, 0, 1)), 20, 30)
    assert [one.silence for one in found] == [0.0, 0.0]  # the lowest of 0 and 3; 0
    # A span that two windows hold counts once, with its best score.
    assert found[0].texts == ("red", "red oak", "oak") and found[0].scores == [2.0, 2.0, 0.0]
    assert found[1].texts[0] == "oak"


def test_a_line_shows_place_and_share() -> None:
    found = span_answers.Found(CONTEXT, [(4, 7), (0, 3)], [math.log(3), 0.0], math.log(4))
    line = span_answers.shown(found, 10.0, silent=False, count=5)
    assert line["prediction"] == "oak" and (line["start"], line["end"]) == (4, 7)
    assert line["confidence"] == 0.75
    assert line["candidates"] == [
        {"text": "oak", "start": 4, "end": 7, "confidence": 0.75},
        {"text": "red", "start": 0, "end": 3, "confidence": 0.25},
    ]
    assert len(span_answers.shown(found, 10.0, silent=False, count=1)["candidates"]) == 1


@pytest.mark.parametrize(("bound", "given"), [(0.28, ""), (0.29, "oak")])
def test_no_answer_is_given_beyond_the_bound(bound: float, given: str) -> None:
    # log 4 - log 3 = 0.2877; with no answer among them the shares are 3/8, 1/8 and 4/8.
    found = span_answers.Found(CONTEXT, [(4, 7), (0, 3)], [math.log(3), 0.0], math.log(4))
    line = span_answers.shown(found, bound, silent=True, count=5)
    assert line["prediction"] == given
    assert line["confidence"] == (0.375 if given else 0.5)
    assert line["start"] == (4 if given else None)


def test_a_row_without_any_span_has_no_answer() -> None:
    found = span_answers.Found(CONTEXT, [], [], 1.0)
    assert found.difference == math.inf
    for silent in (True, False):
        line = span_answers.shown(found, 1e9, silent, 5)
        assert line["prediction"] == "" and line["start"] is None and line["candidates"] == []


def test_answers_are_objects() -> None:
    answers = span_answers.answers_of([("oak", ("oak", "the oak"), -1.0), ("", (), 2.0)])
    assert answers.shape == (2, 3) and answers.dtype == object
    assert answers[0, 1] == ("oak", "the oak")
    assert span_answers.answers_of([]).shape == (0, 3)
