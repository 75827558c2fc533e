"""Short forms, names and negation."""

from __future__ import annotations

import doctest

import pytest

from tunesmith.evaluate import robustness_english as english


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(english).failed == 0


@pytest.mark.parametrize("stem", ["do", "does", "is", "are", "was", "has", "have", "could", "would", "should", "must"])
def test_short_and_long_forms_undo_each_other(stem: str) -> None:
    for written in (stem, stem.capitalize(), stem.upper()):
        long = f"{written} {'NOT' if written.isupper() else 'not'}"
        short = english.shortened(long)
        assert english.LONG.fullmatch(long) and english.SHORT.fullmatch(short)
        assert short.lower() == f"{stem}n't" and english.lengthened(short) == long


@pytest.mark.parametrize(
    ("short", "long"), [("won't", "will not"), ("Can't", "Cannot"), ("I'm", "I am"), ("They've", "They have")]
)
def test_odd_forms(short: str, long: str) -> None:
    assert english.lengthened(short) == long


def test_rings_of_names_lead_through_every_name_and_back() -> None:
    for ring in english.NAMES:
        assert len(set(ring)) == len(ring)
        name = ring[0]
        for _ in ring:
            name = english.NEXT[name]
        assert name == ring[0]
    assert len(english.NEXT) == sum(map(len, english.NAMES))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The lamp is broken.", "The lamp is not broken."),
        ("It isn't here.", "It is here."),
        ("I can't pay and it is late.", "I can pay and it is late."),
        ("You cannot pay.", "You can pay."),
        ("They won't come.", "They will come."),
        ("Won't come.", "Will come."),
        ("I'm happy.", "I'm not happy."),
        ("I have paid.", "I have not paid."),
        ("I have a lamp.", "I do not have a lamp."),
        ("We need help", "We do not need help"),
        ("Where is my lamp?", None),
        ("Can you help?", None),
        ("", None),
        ("שלום עולם", None),
    ],
)
def test_negation_by_hand(text: str, expected: str | None) -> None:
    assert english.negated(text) == expected


def test_negation_is_quick_on_long_words() -> None:
    assert english.negated("a" * 200_000) is None
