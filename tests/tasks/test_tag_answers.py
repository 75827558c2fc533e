"""What is said and shown of tagged rows: notes, texts that travel with a batch, lines of the predictions file."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.core.notes import listening
from tunesmith.tasks.tag_answers import NOTHING, line, objects, order, packed, say, unpacked
from tunesmith.tasks.tag_words import Written, words, written


def example(text: Written) -> dict[str, Any]:
    return {"text": text.text, "starts": text.starts, "ends": text.ends, "whole": text.whole}


def test_tags_stand_in_their_order() -> None:
    # O first; then the types a and b, and within a type the letters.
    assert sorted(["I-b", "S-a", "O", "B-b", "E-b"], key=order) == ["O", "S-a", "B-b", "E-b", "I-b"]
    assert sorted(["VERB", "B", "NOUN", "O"], key=order) == ["O", "NOUN", "VERB", "B"]


def test_answers_of_like_lengths_stay_objects() -> None:
    found = objects(iter([("O", "B-x"), ("O", "O")]))
    assert found.shape == (2,) and found[0] == ("O", "B-x")
    assert objects([]).shape == (0,)


def test_what_is_said_of_rows() -> None:
    with listening() as said:
        say(rows=4000, cut=0, windows=4000, unread=0, dropped=0)
    assert said == []
    with listening() as said:
        say(rows=4000, cut=1200, windows=5300, unread=2001, dropped=3)
    assert said == [
        "1,200 of 4,000 training rows are longer than a window: they are read in overlapping windows (5,300 for all "
        "rows), and nothing is cut.",
        "The tokenizer makes nothing of 2,001 training words: they carry no loss.",
        "3 of 4,000 training rows have no other words, and are left out.",
    ]


def test_a_batch_holds_the_texts_of_its_rows() -> None:
    texts = [written(words(["an", "oak"])), written(words("a caf\u00e9 \U0001f6cb"))]
    fields = packed([example(text) for text in texts])
    # Two words and three: the first row is filled up.
    assert fields["starts"].tolist() == [[0, 3, NOTHING], [0, 2, 7]]
    assert fields["ends"].tolist() == [[2, 6, NOTHING], [1, 6, 8]]
    assert fields["whole"].tolist() == [False, True]
    assert unpacked(fields) == texts


def test_a_line_by_hand() -> None:
    text = written(words(["an", "oak", "desk", "in", "York"]))
    tags = ["O", "B-wood", "I-wood", "O", "B-place"]
    assert line(text, tags, [0.9, 0.8, 0.7, 0.99, 0.6], "bio") == {
        "words": ["an", "oak", "desk", "in", "York"],
        "prediction": tags,
        "entities": [
            {"type": "wood", "text": "oak desk", "start": 1, "end": 3, "confidence": 0.7},
            {"type": "place", "text": "York", "start": 4, "end": 5, "confidence": 0.6},
        ],
        "confidence": 0.6,
    }


def test_places_count_the_characters_of_a_whole_text() -> None:
    #                      0123456789012345
    text = written(words("an  oak desk."))
    (found,) = line(text, ["O", "B-wood", "I-wood"], [0.5, 0.25, 0.75], "bio")["entities"]
    # The blanks between the words are the text's own.
    assert (found["start_char"], found["end_char"], found["text"]) == (4, 13, "oak desk.")
    assert (found["start"], found["end"], found["confidence"]) == (1, 3, 0.25)


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("iobes", ["S-x", "B-x", "E-x"], [("x", 0, 1), ("x", 1, 3)]),
        # Illegal answers are read leniently: I-y goes on no span of its type, and begins one.
        ("bio", ["B-x", "I-y", "I-y"], [("x", 0, 1), ("y", 1, 3)]),
        ("bio", ["O", "O", "O"], []),
    ],
)
def test_entities_of_a_line(scheme: str, tags: list[str], expected: list[tuple[str, int, int]]) -> None:
    found = line(written(words(["a", "b", "c"])), tags, [0.5] * 3, scheme)["entities"]
    assert [(one["type"], one["start"], one["end"]) for one in found] == expected


def test_tags_that_stand_for_themselves_make_no_entities() -> None:
    found = line(written(words(["a", "desk"])), ["DET", "NOUN"], [0.8, 0.9], "none")
    assert found == {"words": ["a", "desk"], "prediction": ["DET", "NOUN"], "confidence": 0.8}


def test_words_that_were_not_read_have_no_say_in_the_confidence() -> None:
    text = written(words(["oak", "\u200b", "York"]))
    # The unread word is O, and breaks no span's confidence; one that is part of a span leaves it to the others.
    found = line(text, ["B-x", "O", "B-y"], [0.75, None, 0.5], "bio")
    assert found["confidence"] == 0.5
    (span,) = line(text, ["B-x", "I-x", "O"], [0.75, None, 0.9], "bio")["entities"]
    assert span["confidence"] == 0.75
    silent = line(text, ["B-x", "O", "O"], [None, None, None], "bio")
    assert silent["confidence"] == 0.0 and silent["entities"][0]["confidence"] == 0.0


def test_confidences_are_rounded() -> None:
    assert line(written(words(["a"])), ["B-x"], [0.12345678], "bio")["entities"][0]["confidence"] == 0.123457
