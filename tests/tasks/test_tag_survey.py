"""What a training split says of its tags: the scheme that is found, what is refused, what is repaired and told."""

from __future__ import annotations

from collections import Counter

import pytest

from tunesmith.core.column import Row
from tunesmith.core.errors import SHOWN_FAULTS, DataError
from tunesmith.core.notes import listening
from tunesmith.tasks.tag_survey import SHOWN_NAMES, Reading, Survey


def row(tags: str, line: int | None = None) -> Row:
    return {"tags": tags.split()} if line is None else {"tags": tags.split(), "line": line}


def settled(rows: list[Row], scheme: str = "auto", *, repair: bool = False) -> tuple[str, Counter[str], list[str]]:
    """The scheme, how often each tag occurs, and what was said."""
    survey = Survey(scheme, repair)
    for one in rows:
        survey.add(one)
    with listening() as said:
        found, counts = survey.settle()
    return found, counts, said


@pytest.mark.parametrize(
    ("tags", "scheme", "told"),
    [
        (
            "B-wood O O B-place",
            "auto",
            ["Tags: scheme bio (found by looking at them); 3 tags on 4 training words; types: place, wood."],
        ),
        (
            "B-wood E-wood S-place O",
            "auto",
            ["Tags: scheme iobes (found by looking at them); 4 tags on 4 training words; types: place, wood."],
        ),
        ("B I O O", "bio", ["Tags: scheme bio; 3 tags on 4 training words; types: _."]),
        ("DET NOUN NOUN", "none", ["Tags: scheme none; 2 tags on 3 training words; tags: DET, NOUN."]),
        # What looks like spans stands for itself where the recipe says so.
        ("I-x O", "none", ["Tags: scheme none; 2 tags on 2 training words; tags: I-x, O."]),
        (
            "0 1 1",
            "auto",
            [
                "All tags are numbers: each stands for itself. Give their names with task.names, in their order.",
                "Tags: scheme none (found by looking at them); 2 tags on 3 training words; tags: 0, 1.",
            ],
        ),
    ],
)
def test_the_scheme_is_said(tags: str, scheme: str, told: list[str]) -> None:
    assert settled([row(tags)], scheme)[2] == told


def test_tags_are_counted_over_all_rows() -> None:
    # The first row alone would be bio; S-y of the second makes both iobes.
    scheme, counts, _ = settled([row("B-x E-x O"), row("S-y O O"), row("O")])
    assert scheme == "iobes" and counts == {"O": 4, "B-x": 1, "E-x": 1, "S-y": 1}
    # Without S and E it stays bio, whose spans may just end.
    assert settled([row("B-x O")])[0] == "bio"


@pytest.mark.parametrize(
    ("rows", "scheme", "message"),
    [
        (
            [row("O I-x", 4), row("I-x", 8)],
            "auto",
            r"in the scheme bio:\n  - line 4, word 2: I-x goes on .*\n  - line 8, word 1: I-x",
        ),
        ([row("B-x B-x", 4), row("S-x", 8)], "auto", "in the scheme iobes:\n  - line 4, word 2: B-x follows B-x"),
        ([row("O I-x")], "bio", "in the scheme bio:\n  - word 2: I-x goes on no span"),
        ([row("O NOUN", 2)], "bio", "  - line 2, word 2: 'NOUN' is no tag of the scheme bio"),
        (
            [row("B-x NOUN VERB"), row("O VERB")],
            "auto",
            r"such as 'B-x'\), and 2 have no such form: 'NOUN' \(1\), 'VERB' \(2\)",
        ),
        ([row("O O"), row("O")], "auto", "All 3 words of the training rows have the tag 'O'"),
        ([row("NOUN")], "none", "All 1 words of the training rows have the tag 'NOUN'"),
    ],
)
def test_tags_that_can_t_be_learned(rows: list[Row], scheme: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        settled(rows, scheme)


def test_of_many_illegal_rows_the_first_are_shown() -> None:
    rows = [row("O I-x", number) for number in range(SHOWN_FAULTS + 5)]
    with pytest.raises(DataError) as caught:
        settled(rows)
    assert caught.value.message.count("line ") == SHOWN_FAULTS and caught.value.message.endswith("… and 5 more")
    assert caught.value.hint == "Mend the file, or set task.repair=true or another task.scheme."


def test_repairs_are_counted() -> None:
    # O I-x I-x becomes O B-x I-x, and I-y becomes B-y: two tags in two rows; the third row is legal.
    rows = [row("O I-x I-x", 4), row("I-y", 8), row("B-x O", 9)]
    scheme, counts, said = settled(rows, repair=True)
    assert scheme == "bio" and counts == {"O": 2, "B-x": 2, "I-x": 1, "B-y": 1}
    assert said[1:] == [
        "Illegal tags were repaired in 2 training rows (2 tags); the first: line 4, word 2: I-x goes on no span of its "
        "type (the tag before it: O)."
    ]
    assert len(settled([row("B-x O", 9)], repair=True)[2]) == 1


def test_what_no_repair_mends_is_refused() -> None:
    # I-x could begin a span; of NOUN nothing can be made in bio.
    rows = [row("O I-x", 4), row("NOUN I-x", 5)]
    with pytest.raises(DataError, match="in the scheme bio:\n  - line 5, word 1: 'NOUN' is no tag") as caught:
        settled(rows, "bio", repair=True)
    assert caught.value.hint == "Mend the file, or set another task.scheme."


def test_a_repair_is_that_of_its_scheme() -> None:
    # A span of one word is B-x in bio and S-x in iobes.
    for scheme, expected in (("bio", "B-x"), ("iobes", "S-x"), ("none", "I-x")):
        reading = Reading(scheme)
        reading.add(row("O I-x"), True)
        assert reading.counts == {"O": 1, expected: 1}
        assert (reading.rows, reading.tags) == ((0, 0) if scheme == "none" else (1, 1))


def test_of_many_names_the_first_are_said() -> None:
    types = [f"x{number:02}" for number in range(SHOWN_NAMES)]
    # Forty tags, and no more types than are said.
    rows = [row(f"B-{kind} I-{kind}") for kind in types]
    assert settled(rows)[2][0].endswith("40 tags on 40 training words; types: " + ", ".join(types) + ".")
    assert settled([*rows, row("B-y")])[2][0].endswith(", x19, ….")
    assert settled([row(kind) for kind in (*types, "y")], "none")[2][0].endswith(", x19, ….")
