"""Which column plays which role."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.roles import LABEL, SCORE, TEXT
from tunesmith.core.column import Column, text
from tunesmith.core.errors import DataError
from tunesmith.data.columns import inputs, match

PATH = Path("a.csv")


def test_likely_names_are_found_in_their_order_and_in_any_case() -> None:
    assert match(["Intent", "SENTENCE", "Text"], [TEXT, LABEL], path=PATH) == {"text": "Text", "label": "Intent"}


def test_a_named_column_goes_before_likely_ones() -> None:
    named = replace(LABEL, name="text")
    assert match(["text", "sentence"], [TEXT, named], path=PATH) == {"text": "sentence", "label": "text"}


def test_targets_are_left_out_where_they_are_not_needed() -> None:
    assert match(["text", "label"], [TEXT, LABEL], path=PATH, need_targets=False) == {"text": "text"}


def test_two_roles_never_share_a_column() -> None:
    pair = Column("pair", None, ("text",), text)
    with pytest.raises(DataError, match="no column for the role 'pair'"):
        match(["text"], [TEXT, pair], path=PATH)
    with pytest.raises(DataError, match="column 'body' is given to two roles; 'pair' needs another"):
        match(["body"], [replace(TEXT, name="body"), replace(pair, name="body")], path=PATH)


def test_all_that_is_missing_is_said_together_with_how_to_map_it() -> None:
    with pytest.raises(DataError) as caught:
        match(["review", "stars"], [replace(TEXT, name="reviews"), LABEL], path=PATH)
    message = str(caught.value)
    assert "a.csv has 2 faults" in message
    assert "no column 'reviews' for the role 'text'. Did you mean 'review'? Known: review, stars." in message
    assert "no column for the role 'label' (looked for: label, intent); the file's columns: review, stars" in message
    assert "--set task.text=COLUMN" in message


def test_inputs_are_the_texts_that_are_given() -> None:
    assert inputs([TEXT, LABEL]) == ["text"]
    assert inputs([SCORE]) == ["score"]
