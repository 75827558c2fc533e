"""Words and tags as files hold them."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.tasks.tag_words import tags, words, written


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["an", "oak", "desk"], ["an", "oak", "desk"]),
        ([" an ", "oak"], ["an", "oak"]),
        (["1 000", "crowns"], ["1 000", "crowns"]),
        (["a", "\u00a0"], ["a", "\u00a0"]),
        ("an  oak desk", ["an  ", "oak ", "desk "]),
        (" one\t", [" one\t "]),
        ('["an", "oak"]', ["an", "oak"]),
    ],
)
def test_words_of_a_cell(value: object, expected: list[str]) -> None:
    assert words(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "is neither a list of words nor a text but \\[\\]"),
        (None, "is neither a list of words nor a text but null"),
        (" ", "is blank"),
        (["a", ""], "word 2 is empty"),
        (["a", 3], "word 2 is not a text but 3"),
        ("['an', 'oak']", "is a list as Python prints it"),
    ],
)
def test_what_is_no_words(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        words(value)


@pytest.mark.parametrize("text", ["an oak desk", "  an  oak\tdesk ", "desk", "caf\u00e9 \U0001f6cb x"])
def test_a_text_is_not_lost(text: str) -> None:
    found = written(words(text))
    assert (found.text, found.whole, found.words) == (text, True, text.split())


@pytest.mark.parametrize("given", [["an", "oak", "desk"], ["desk"], ["\u00a0", "b"], ["1 000", "x"]])
def test_a_list_is_joined_and_told_from_a_text(given: list[str]) -> None:
    found = written(words(given))
    assert (found.text, found.whole, found.words) == (" ".join(given), False, given)


@pytest.mark.parametrize(
    ("value", "settings", "expected"),
    [
        (["O", "B-a"], {}, ["O", "B-a"]),
        ("O B-a I-a", {}, ["O", "B-a", "I-a"]),
        ('["O", "B-a"]', {}, ["O", "B-a"]),
        ([0, 2, 1], {"names": ["O", "B-a", "I-a"], "repair": True}, ["O", "I-a", "B-a"]),
        ("0 1 2", {"names": ["O", "B-a", "I-a"]}, ["O", "B-a", "I-a"]),
        (["O", "B-a"], {"names": ["O", "B-a", "I-a"]}, ["O", "B-a"]),
        ([0, 3], {}, ["0", "3"]),
        ("O I-a", {"repair": True}, ["O", "I-a"]),
        ("O I-a", {"scheme": "none"}, ["O", "I-a"]),
        ("B-a E-a", {}, ["B-a", "E-a"]),
        ("B-a B-a", {}, ["B-a", "B-a"]),
        ("O S E", {}, ["O", "S", "E"]),
        ("B-a NOUN", {}, ["B-a", "NOUN"]),
    ],
)
def test_tags_of_a_cell(value: object, settings: dict[str, Any], expected: list[str]) -> None:
    assert tags(value, **{"scheme": "auto", "repair": False, "names": None, **settings}) == expected


@pytest.mark.parametrize(
    ("value", "settings", "message"),
    [
        ([], {}, "is neither a list of tags nor a text"),
        (None, {}, "is neither a list of tags nor a text but null"),
        (["O", None], {}, "tag 2 is neither a name nor a number but null"),
        ("O I-a", {}, "word 2: I-a goes on no span of its type .the tag before it: O.; task.repair=true"),
        ("B-a E-a O I-a", {}, "word 4: I-a goes on no span"),
        ("B-a B-a", {"scheme": "iobes"}, "word 2: B-a follows B-a, whose span has no end"),
        (
            "O NOUN",
            {"scheme": "bio"},
            "word 2: 'NOUN' is no tag of the scheme bio: O, or one of BI before - and a type$",
        ),
        ("I-a NOUN", {"scheme": "bio", "repair": True}, "word 2: 'NOUN' is no tag of the scheme bio"),
        ([0, 7], {"names": ["O", "B-a"]}, "tag 2 is 7, but task.names has 2 names, for 0 to 1"),
        (["O", "X"], {"names": ["O", "B-a"]}, "tag 2 is 'X', which is not among task.names: O, B-a"),
    ],
)
def test_what_is_no_tags(value: object, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tags(value, **{"scheme": "auto", "repair": False, "names": None, **settings})
