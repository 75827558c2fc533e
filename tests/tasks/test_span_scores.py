"""The rules of SQuAD's scripts, against answers scored by hand and against the rules told another way."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import numpy as np
import pytest

from tunesmith.tasks import span_scores
from tunesmith.tasks.span_answers import answers_of


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("a theory of an anthem", "theory of anthem"),
        ("co-op", "coop"),
        ("the", ""),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation goes
        ("A.\tB", "b"),
    ],
)
def test_what_is_left_of_a_text(text: str, left: str) -> None:
    assert span_scores.normalised(text) == left


@pytest.mark.parametrize(
    ("golds", "given", "exact", "f1"),
    [
        (("the red chair",), "Red chair.", 1.0, 1.0),
        # Two words of the answer's three are among the gold's two: 2 * 2 / (3 + 2).
        (("red chair",), "big red chair", 0.0, 0.8),
        # Words count as often as they occur: one "red" is shared, 2 * 1 / (2 + 1).
        (("red",), "red red", 0.0, 2 / 3),
        (("red chair", "chair"), "chair", 1.0, 1.0),
        ((), "", 1.0, 1.0),
        ((), "chair", 0.0, 0.0),
        (("chair",), "", 0.0, 0.0),
        # A gold answer of which nothing is left counts as none.
        (("The",), "", 1.0, 1.0),
        (("The", "oak"), "", 0.0, 0.0),
        (("oak",), "the", 0.0, 0.0),
    ],
)
def test_scores_by_hand(golds: tuple[str, ...], given: str, exact: float, f1: float) -> None:
    assert span_scores.scores(golds, given) == pytest.approx((exact, f1))


def told_again(golds: tuple[str, ...], given: str) -> tuple[float, float]:
    """Precision and recall spelled out, letter by letter."""

    def words(text: str) -> list[str]:
        bare = "".join(letter for letter in text.lower() if not re.match(r"[!-/:-@\[-`{-~]", letter))
        return [word for word in re.split(r"\s+", re.sub(r"\b(?:the|an|a)\b", " ", bare)) if word]

    wanted = [words(gold) for gold in golds if words(gold)] or [[]]
    found, best = words(given), [0.0, 0.0]
    for gold in wanted:
        shared = sum(min(count, Counter(found)[word]) for word, count in Counter(gold).items())
        precision, recall = (shared / len(side) if side else 0.0 for side in (found, gold))
        f1 = 2 * precision * recall / (precision + recall) if shared else float(found == gold)
        best = [max(best[0], float(found == gold)), max(best[1], f1)]
    return best[0], best[1]


def test_random_texts_score_as_precision_and_recall_say() -> None:
    draw = random.Random(0)
    pieces = ["the", "A", "oak", "Oak,", "chair", "an", "(red)", "table's", "–", ""]

    def text() -> str:
        return " ".join(draw.choices(pieces, k=draw.randrange(5)))

    for _ in range(500):
        golds, given = tuple(text() for _ in range(draw.randrange(4))), text()
        assert span_scores.scores(golds, given) == pytest.approx(told_again(golds, given))


def test_metrics_of_questions_with_and_without_an_answer() -> None:
    truths = answers_of([("oak", ("oak",), -1.0), ("red chair", ("red chair",), -1.0), ("", (), 1.0), ("", (), 1.0)])
    answers = answers_of([("oak", ("oak",), 0.0), ("chair", ("chair",), 0.0), ("", ("oak",), 2.0), ("x", ("x",), 0.0)])
    # F1 by row: 1, 2 * 1 / (1 + 2), 1, 0. Exact: 1, 0, 1, 0.
    found = span_scores.metrics(truths, answers, split=True)
    assert found == pytest.approx(
        {"f1": (2 + 2 / 3) / 4, "exact_match": 0.5, "f1_with_answer": 5 / 6, "accuracy_without_answer": 0.5}
    )
    assert list(span_scores.metrics(truths, answers, split=False)) == ["f1", "exact_match"]
    assert np.isnan(span_scores.metrics(truths[:2], answers[:2], split=True)["accuracy_without_answer"])
    assert span_scores.by_length(truths, answers).rows == [
        ["none", 2, 0.5, 0.5], ["1", 1, 1.0, 1.0], ["2 to 3", 1, pytest.approx(2 / 3), 0.0],
    ]  # fmt: skip
    assert span_scores.withheld(truths, answers).rows == [["has an answer", 2, 0], ["has none", 1, 1]]


def test_the_threshold_by_hand() -> None:
    # Answering the first two rows and withholding the third gains 1 + 1 + 1: the threshold lies between 0.5 and 2.
    differences, answered, silent = np.array([2.0, -3.0, 0.5]), np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 0.0])
    assert span_scores.best_threshold(differences, answered, silent) == 1.25
    # Rows that share a difference stay together.
    both = span_scores.best_threshold(np.array([1.0, 1.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert both == 0.0  # answering both or none is worth the same: the nearest to 0 of 0 and 2


def test_no_other_threshold_is_better() -> None:
    draw = np.random.default_rng(0)
    for rows, _ in itertools.product((1, 2, 7, 30), range(10)):
        differences = draw.integers(-4, 5, rows).astype(float)
        answered, silent = draw.random(rows), draw.integers(0, 2, rows).astype(float)

        def total(bound: float, given: tuple[np.ndarray, ...] = (differences, answered, silent)) -> float:
            return float(np.where(given[0] <= bound, given[1], given[2]).sum())

        best = total(span_scores.best_threshold(differences, answered, silent))
        assert best == pytest.approx(max(total(bound) for bound in np.arange(-6, 7, 0.25)))
