"""Answers beside each other, in every form that tasks give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.evaluate import ruled
from tunesmith.core import registry
from tunesmith.evaluate.robustness_answers import LONGEST, Judge, cut, spread


def objects(*values: Any) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def test_the_same_in_every_form() -> None:
    judge = Judge(ruled.task(), tolerance=0.5)
    assert judge.same(np.array([1, 2]), np.array([1, 3])).tolist() == [True, False]
    assert judge.same(np.array([1.0, 2.0]), np.array([1.5, 2.6])).tolist() == [True, False]
    several = np.array([[True, False], [True, True]])
    assert judge.same(several, np.array([[True, False], [False, True]])).tolist() == [True, False]
    assert judge.same(objects(("O", "B"), ("O",)), objects(("O", "B"), ("B",))).tolist() == [True, False]
    texts = np.array([["oak", (), 0.5], ["pine", (), 0.1]], dtype=object)
    assert judge.same(texts, np.array([["oak", (), 0.9], ["ash", (), 0.1]], dtype=object)).tolist() == [True, False]


def test_given_and_right() -> None:
    judge = Judge(ruled.task())
    assert judge.given(np.array([[None, 1.0], ["text", 2.0]], dtype=object)).tolist() == [False, True]
    assert judge.given(np.array([1, 2])).all()
    assert judge.right(np.array([1, 2]), np.array([1, 1])).tolist() == [True, False]
    span: Any = registry.build("tasks", "answer_span")
    truths = np.array([["an oak", ("an oak", "oak"), -np.inf], ["pine", ("pine",), -np.inf]], dtype=object)
    answers = np.array([["the oak", (), 0.0], ["pine tree", (), 0.0]], dtype=object)
    # By SQuAD's rules: without articles.
    assert Judge(span).right(truths, answers).tolist() == [True, False]


def test_shown() -> None:
    judge = Judge(ruled.task())
    assert judge.shown(np.int64(1)) == "praise" and judge.shown(1.23456) == "1.235"
    assert judge.shown(np.array([True, False, True])) == "cancel, price"
    assert judge.shown(np.array([False, False, False])) == "none"
    assert judge.shown(("O", "B-wood")) == "O B-wood"
    assert judge.shown(np.array(["oak", (), 0.5], dtype=object)) == "oak"


def test_long_texts_are_cut_where_they_differ() -> None:
    text = "a" * 500
    other = "a" * 300 + "b" + "a" * 199
    assert cut("short\ntext") == "short text"
    assert cut(text) == "a" * LONGEST + "…"
    shown = cut(other, text)
    assert "b" in shown and shown.startswith("…") and shown.endswith("…") and len(shown) == LONGEST + 2


def test_the_spread_of_numbers_alone() -> None:
    assert spread(np.array([0.0, 2.0])) == 1.0 and spread(np.array([0.0, 4.0])) == 2.0
    assert spread(np.array([3.0, 3.0])) == spread(np.array([1, 5])) == 1.0
