"""Rows that are changed while they are read: labels follow, and what can't be changed is told."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest
from datasets import Dataset

from tests import toy
from tests.tasks.test_answer_span import toy_rows as span_rows
from tests.tasks.test_tag import toy_rows as tag_rows
from tunesmith.core import registry
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Task
from tunesmith.core.rows import each, take
from tunesmith.evaluate.robustness_changes import CHANGES
from tunesmith.evaluate.robustness_rows import Changed, Listed, change_row, change_words, changed_places, layout
from tunesmith.tasks.tag_words import words as words_of


def task(name: str, labels: tuple[str, ...] = ("no", "yes"), **settings: Any) -> Task:
    found = cast(Task, registry.build("tasks", {"name": name, **settings}))
    if name == "classify":
        found.learn({"label": label} for label in labels)
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_tags_stay_with_their_words(name: str) -> None:
    laid = layout(task("tag"))
    for number, row in enumerate(tag_rows(12)):
        new = change_row(row, laid, name, 1.0, f"seed {number}")
        assert new["tags"] == row["tags"] and len(new["words"]) == len(row["words"])
        assert all(word.strip() for word in new["words"])
    suited = [name for name in CHANGES if CHANGES[name].inside]
    assert laid.known() == suited and "sentence" not in suited and "joined" not in suited


@pytest.mark.parametrize("name", [name for name in CHANGES if CHANGES[name].inside])
def test_words_are_changed_within(name: str) -> None:
    written = ["Wooden", "Tables", ",", "re-made", "in", "New York", "👍🏽", "<b>", "München"]
    new = change_words(written, name, 1.0, Random(0))
    assert len(new) == len(written) and new != written
    assert [new[2], new[6], new[7]] == [",", "👍🏽", "<b>"]
    # Words of one text keep the blanks around them.
    whole = words_of("  wooden tables  and\tLAMPS ")
    changed = change_words(whole, name, 1.0, Random(0))
    assert [word[len(word.rstrip()) :] for word in changed] == [word[len(word.rstrip()) :] for word in whole]


@pytest.mark.parametrize("name", CHANGES)
def test_answers_stay_where_they_are_found(name: str) -> None:
    span = task("answer_span")
    laid = layout(span)
    rows = [
        *span_rows(12),
        {
            "question": "Where's Anna's table, and isn't it in Berlin?",
            "context": "Dear Anna, the wooden table stands in Berlin. It isn't yours, and 85 do not stand there.",
            "answers": [
                {"start": 38, "text": "Berlin"},
                {"start": None, "text": "wooden table"},
                {"start": 55, "text": "yours"},
            ],
        },
    ]
    touched = 0
    for number, row in enumerate(rows):
        for strength in (0.3, 1.0):
            new = change_row(row, laid, name, strength, f"seed {number}")
            assert [one["text"] for one in new["answers"]] == [one["text"] for one in row["answers"]]
            for one in new["answers"]:
                start = new["context"].index(one["text"]) if one["start"] is None else one["start"]
                assert new["context"][start : start + len(one["text"])] == one["text"]
            touched += new["context"] != row["context"]
    # The task itself finds them.
    changed = [change_row(row, laid, name, 1.0, "seed") for row in rows]
    assert [row[1] for row in span.truths(changed)] == [row[1] for row in span.truths(rows)]
    assert touched > 0 or not laid.suits(name) or name in ("long_forms", "short_forms")


def test_an_answer_at_the_end_keeps_its_end() -> None:
    laid = layout(task("answer_span"))
    row = {"question": "What?", "context": "It is a table", "answers": [{"start": 8, "text": "table"}]}
    for name in ("sentence", "closed", "unclosed"):
        assert change_row(row, laid, name, 1.0, "seed")["context"] == row["context"]


def test_the_texts_of_a_row_are_changed_alike() -> None:
    laid = layout(task("classify", pair="pair"))
    row = {"text": "Anna came from London with a lamp", "pair": "A lamp came with Anna", "label": "yes"}
    new = change_row(row, laid, "names", 1.0, "seed")
    assert new == {"text": "Maria came from Paris with a lamp", "pair": "A lamp came with Maria", "label": "yes"}
    upper = change_row(row, laid, "upper", 1.0, "seed")
    assert upper["text"].isupper() and upper["pair"].isupper()


def test_what_might_carry_the_label_is_left() -> None:
    single, pair = layout(task("classify")), layout(task("classify", pair="pair"))
    number, span = layout(task("regress")), layout(task("answer_span"))
    assert single.known() == list(CHANGES)
    assert not layout(task("classify", labels=("1 star", "2 stars"))).suits("numbers")
    assert set(CHANGES) - set(pair.known()) == {"numbers", "sentence"}
    assert set(CHANGES) - set(number.known()) == {"numbers"}
    assert set(CHANGES) - set(span.known()) == {"names", "numbers"}
    assert set(CHANGES) - set(layout(task("choose")).known()) == {"names", "numbers", "sentence"}
    prompts = layout(task("generate", format="prompt_completion"))
    assert prompts.texts == ("prompt", "system") and not {"names", "numbers", "sentence"} & set(prompts.known())


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("fill", {}, "'fill': its rows hold no answer apart from their texts"),
        ("generate", {"format": "text"}, "no answer apart"),
        ("generate", {"format": "messages"}, "its rows are talks"),
        ("classify_image", {}, "its rows hold files"),
        ("embed", {"goal": "in_batch"}, "no answer apart"),
    ],
)
def test_tasks_for_which_it_makes_no_sense_are_told(name: str, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        layout(task(name, **settings))


def test_rows_are_changed_when_they_are_read_and_the_same_in_any_block() -> None:
    laid, read = layout(task("classify")), []
    plain = Dataset.from_list([{"text": f"wooden table number {n}", "label": "yes"} for n in range(20)])

    def change(row: dict[str, Any], place: int) -> dict[str, Any]:
        read.append(place)
        return change_row(row, laid, "keyboard", 1.0, f"seed {place}")

    view = Changed(plain, [3, 5, 8, 13], change)
    assert len(view) == 4 and read == []
    whole = list(each(view))
    assert read == [3, 5, 8, 13]
    assert [take(view, [2])[0], *take(view, slice(3, 4))] == whole[2:]
    assert all(row["text"] != plain[place]["text"] for row, place in zip(whole, [3, 5, 8, 13], strict=True))
    assert len({row["text"][:12] for row in whole}) > 1


def test_places_that_change() -> None:
    laid = layout(task("classify"))
    rows = Listed([{"text": text, "label": "yes"} for text in ("a lamp", "Anna", "two", "Berlin, Anna")])
    found = changed_places(rows, range(4), lambda row, place: change_row(row, laid, "names", 1.0, ""))
    assert found == [1, 3]
    assert changed_places(rows, [], lambda row, place: row) == []


def test_every_task_that_is_not_told_can_be_changed() -> None:
    for name in registry.names("tasks"):
        part = task(name)
        try:
            laid = layout(part)
        except RecipeError:
            continue
        rows = list(each(toy.rows_for(part, 4)))
        new = [change_row(row, laid, "upper", 1.0, "seed") for row in rows]
        assert new != rows and [row.keys() for row in new] == [row.keys() for row in rows], name
