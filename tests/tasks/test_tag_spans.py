"""Spans in tags: read and counted as seqeval does, legal or not, repaired."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from tunesmith.tasks import tag_spans
from tunesmith.tasks.tag_spans import Span, Tally, by_kind, detected, fault, repaired, scores, spans

BIO = ["O", "O", "B-a", "I-a", "B-b", "I-b"]
IOBES = [*BIO, "E-a", "S-a", "E-b", "S-b"]


def drawn(seed: int, tags: list[str], rows: int = 20) -> list[list[str]]:
    """Random sequences, most of them illegal."""
    draw = random.Random(seed)
    return [draw.choices(tags, k=draw.randint(1, 12)) for _ in range(rows)]


def test_spans_by_hand() -> None:
    tags = ["B-a", "I-a", "I-b", "O", "I-a", "B-a", "B-a"]
    # I-b goes on no span of type b, and the second I-a follows O: each begins a span.
    assert spans(tags, "bio") == [
        Span("a", 0, 2), Span("b", 2, 3), Span("a", 4, 5), Span("a", 5, 6), Span("a", 6, 7),
    ]  # fmt: skip
    assert spans(["NOUN", "O", "NOUN"], "none") == [Span("NOUN", 0, 1), Span("O", 1, 2), Span("NOUN", 2, 3)]
    assert spans(["B", "I", "O", "I"], "bio") == [Span("_", 0, 2), Span("_", 3, 4)]


@pytest.mark.parametrize("tags", [BIO, IOBES, ["O", "B", "I"]], ids=["bio", "iobes", "typeless"])
def test_spans_are_those_of_seqeval(tags: list[str]) -> None:
    for row in drawn(1, tags, 500):
        assert [(kind, start, end - 1) for kind, start, end in spans(row, "bio")] == get_entities(row)


@pytest.mark.parametrize(
    ("tags", "scheme", "expected"),
    [
        ("O B-a I-a B-a O", "bio", ""),
        ("O I-a", "bio", "word 2: I-a goes on no span of its type (the tag before it: O)"),
        ("I-a", "bio", "word 1: I-a goes on no span of its type (the tag before it: none)"),
        ("B-b I-a", "bio", "word 2: I-a goes on no span of its type (the tag before it: B-b)"),
        ("B-a E-a", "bio", "word 2: 'E-a' is no tag of the scheme bio: O, or one of BI before - and a type"),
        ("B-a NOUN", "bio", "word 2: 'NOUN' is no tag of the scheme bio: O, or one of BI before - and a type"),
        ("S-a B-a I-a E-a O", "iobes", ""),
        ("B-a O", "iobes", "word 2: O follows B-a, whose span has no end"),
        ("B-a S-a", "iobes", "word 2: S-a follows B-a, whose span has no end"),
        ("O B-a I-a", "iobes", "word 3: I-a is the last tag, and its span has no end"),
        ("S-a E-a", "iobes", "word 2: E-a goes on no span of its type (the tag before it: S-a)"),
        ("I-a NOUN O", "none", ""),
    ],
)
def test_what_is_illegal(tags: str, scheme: str, expected: str) -> None:
    assert fault(tags.split(), scheme) == expected


def test_repairs_by_hand() -> None:
    assert repaired(["O", "I-a", "I-a", "I-b"], "bio") == ("O", "B-a", "I-a", "B-b")
    assert repaired(["B-a", "O", "I-b", "I-b"], "iobes") == ("S-a", "O", "B-b", "E-b")
    assert repaired(["O", "I"], "bio") == ("O", "B")
    assert repaired(["NOUN", "I-a"], "none") == ("NOUN", "I-a")


@pytest.mark.parametrize(("scheme", "tags"), [("bio", BIO), ("iobes", IOBES)])
def test_what_is_repaired_is_legal_and_has_the_same_spans(scheme: str, tags: list[str]) -> None:
    for row in drawn(2, tags, 300):
        mended = repaired(row, scheme)
        assert fault(mended, scheme) == ""
        assert spans(mended, scheme) == spans(row, scheme)
        assert repaired(mended, scheme) == mended
        assert fault(row, scheme) or mended == tuple(row)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-a I-a", ("bio", [])),
        ("O I-a", ("bio", [])),
        ("O B-a E-a", ("iobes", [])),
        ("O S-a", ("iobes", [])),
        ("O B I", ("bio", [])),
        ("NOUN VERB", ("none", [])),
        ("NOUN O S E", ("none", [])),
        ("O S E", ("none", [])),
        ("0 1 2", ("none", [])),
        ("O", ("none", [])),
        ("O B-a NOUN L-a", ("none", ["L-a", "NOUN"])),
    ],
)
def test_schemes_are_found(tags: str, expected: tuple[str, list[str]]) -> None:
    assert detected(tags.split()) == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tags", [BIO, IOBES], ids=["bio", "iobes"])
@pytest.mark.parametrize("seed", range(6))
def test_figures_are_those_of_seqeval(seed: int, tags: list[str]) -> None:
    truths = [repaired(row, "bio" if tags is BIO else "iobes") for row in drawn(seed, tags)]
    draw = random.Random(seed)
    answers = [tuple(tag if draw.random() < 0.7 else draw.choice(tags) for tag in row) for row in truths]
    right, given, true, words_right, words = Tally("bio").counts(truths, answers).tolist()
    one, other = [list(row) for row in truths], [list(row) for row in answers]
    expected = precision_score(one, other), recall_score(one, other), f1_score(one, other)
    assert scores(right, given, true) == pytest.approx(expected)
    flat = [(a, b) for row, given_row in zip(one, other, strict=True) for a, b in zip(row, given_row, strict=True)]
    assert (words_right, words) == (sum(a == b for a, b in flat), len(flat))
    report = classification_report(one, other, output_dict=True)
    for kind, counts in by_kind(truths, answers, "bio").items():
        told = report[kind]
        assert scores(*counts) == pytest.approx((told["precision"], told["recall"], told["f1-score"]))
        assert counts[2] == told["support"]


def test_figures_by_hand() -> None:
    truths = [("B-a", "I-a", "O"), ("O", "B-b")]
    answers = [("B-a", "O", "O"), ("B-b", "B-b")]
    # Right: b at word 2. Given: a at 1, b at 1, b at 2. True: a at 1 to 2, b at 2. Words: 3 of 5 are right.
    assert Tally("bio").counts(truths, answers).tolist() == [1, 3, 2, 3, 5]
    assert scores(1, 3, 2) == (pytest.approx(1 / 3), 0.5, pytest.approx(0.4))
    assert scores(0, 0, 2) == (0.0, 0.0, 0.0) and scores(0, 2, 0) == (0.0, 0.0, 0.0)
    assert all(math.isnan(value) for value in scores(0, 0, 0))


def test_a_tally_counts_every_draw_and_every_form_of_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_spans, "ENOUGH", 1)
    tally = Tally("bio")
    truths = [("B-a", "O"), ("O", "O")]
    assert tally.counts(truths, ["O", "O"]).tolist() == [0, 0, 1, 3, 4]
    assert tally.counts([truths[0]] * 3, [truths[0]] * 3).tolist() == [3, 3, 3, 6, 6]
    # An answer that is shorter or longer than its row has wrong words, and no fault.
    assert tally.counts(truths[:1], [("B-a",)]).tolist() == [1, 1, 1, 1, 2]
    for number in range(30):  # more pairs than are kept
        assert tally.counts([("B-a",) * (number + 1)], [("B-a",)]).tolist()[4] == number + 1
    assert tally.counts([], []).tolist() == [0, 0, 0, 0, 0]


def test_a_tally_is_fast_enough_for_a_bootstrap() -> None:
    truths = np.empty(200, dtype=object)
    for place, row in enumerate(drawn(3, BIO, 200)):
        truths[place] = tuple(row)
    tally, draw = Tally("bio"), np.random.default_rng(0)
    compared = 0

    def counting(truth: tag_spans.Tags, answer: tag_spans.Tags) -> object:
        nonlocal compared
        compared += 1
        return Tally._compared(tally, truth, answer)

    tally._compared = counting  # type: ignore[assignment, method-assign]
    for _ in range(50):
        places = draw.integers(0, 200, 200)
        tally.counts(truths[places], truths[places])
    assert compared <= 200  # each row once, not once a draw
