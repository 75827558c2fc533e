"""Near repetitions: the search finds what comparing all pairs finds."""

from __future__ import annotations

import random
import re
import time

from tunesmith.data.near import Pair, pairs, shingles


def triples(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False)) if len(words) > 2 else {(word,) for word in words}


def similarity(one: str, other: str) -> float:
    first, second = triples(one), triples(other)
    return len(first & second) / len(first | second) if first | second else 0.0


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 25))) for _ in range(count)]


def test_sets_by_hand() -> None:
    sets = shingles(["One two, three four!", "one two", "", "a a a a a", "Two ONE"])
    assert sets.sizes.tolist() == [2, 2, 0, 1, 2]
    assert sets.members(1).tolist() == sets.members(4).tolist()


def test_case_and_punctuation_do_not_count_and_order_does() -> None:
    held = ["Where is my order?", "my order is where"]
    assert pairs(held, [["no", "where is my order"]]) == [Pair(0, 1, 1.0)]


def test_four_fifths_is_near_and_less_is_not() -> None:
    six, seven = "a b c d e f", "a b c d e f g"
    assert similarity(six, seven) == 4 / 5
    assert pairs([seven], [[six]]) == [Pair(0, 0, 4 / 5)]
    assert pairs([six], [["a b c d e"]]) == []


def test_the_search_equals_comparing_all_pairs() -> None:
    base = sentences(200, seed=0)
    draw = random.Random(1)
    held = sentences(100, seed=2)
    for text in base[:150]:
        words = text.split()
        words[len(words) - draw.randint(0, 3) :] = draw.choices("abcxyz", k=draw.randint(0, 3))
        held.append(" ".join(words))
    expected = {}
    for position, text in enumerate(held):
        near = [number for number, other in enumerate(base) if 5 * similarity(text, other) >= 4]
        if near:
            expected[position] = near[0]
    found = pairs(held, [base[:70], base[70:]])
    assert {pair.held: pair.train for pair in found} == expected
    assert len(expected) > 20


def test_nothing_to_compare() -> None:
    assert pairs([], [["a b c"]]) == []
    assert pairs(["!", "a b c"], [["?"], []]) == []


def test_seven_thousand_against_two_thousand_take_less_than_three_seconds() -> None:
    start = time.perf_counter()
    pairs(sentences(2000, seed=0), [sentences(7000, seed=1)])
    assert time.perf_counter() - start < 3
