"""Texts that become no markup, and paths that are left out."""

from __future__ import annotations

import pytest

from tunesmith.serve import card_marks as marks


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a|b", "a\\|b"),
        ("`c`", "\\`c\\`"),
        ("<i>&", "&lt;i&gt;&amp;"),
        ("d\n---\ne", "d \\-\\-\\- e"),
        ("\u202ee\u2028f\x07", "e f"),
        ("\ud800", "?"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_a_text_is_one_line_without_markup(given: str, shown: str) -> None:
    assert marks.text(given) == shown


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("/srv/me/rows.csv", "rows.csv"),
        ("C:\\Users\\me\\rows.csv", "rows.csv"),
        ("~/rows.csv", "rows.csv"),
        ("data/rows.csv", "data/rows.csv"),
        ("someone/base", "someone/base"),
        ("the file /srv/me/x.csv is gone", "the file x.csv is gone"),
        ({"a": ["/b/c", 1]}, {"a": ["c", 1]}),
    ],
)
def test_paths_of_this_machine_keep_their_last_part(given: object, left: object) -> None:
    assert marks.unplaced(given) == left


def test_a_fence_is_longer_than_any_in_the_code() -> None:
    assert marks.fenced("a\n````\nb", "yaml") == "`````yaml\na\n````\nb\n`````"


def test_a_table_leaves_out_what_is_no_number() -> None:
    assert marks.table(["a", "b"], [["x|y", float("nan")], [None, 123456.0]]).splitlines()[2:] == [
        "| x\\|y |  |", "|  | 123,456 |"
    ]  # fmt: skip
