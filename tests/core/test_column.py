"""Cells: how each kind of value is read, and what is said of a bad one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.core import column


@pytest.mark.parametrize(
    ("parse", "value", "expected"),
    [
        (column.text, " a b ", " a b "),
        (column.label, " a ", "a"),
        (column.label, 3, "3"),
        (column.label, 3.0, "3"),
        (column.label, True, "true"),
        (column.label, False, "false"),
        (column.labels, "a, b ,c", ["a", "b", "c"]),
        (column.labels, "a", ["a"]),
        (column.labels, "", []),
        (column.labels, None, []),
        (column.labels, [], []),
        (column.labels, ["a", 2, True], ["a", "2", "true"]),
        (column.number, "1.5", 1.5),
        (column.number, " -2e3 ", -2000.0),
        (column.number, 3, 3.0),
    ],
)
def test_values(parse: Callable[[object], Any], value: object, expected: object) -> None:
    assert parse(value) == expected


@pytest.mark.parametrize(
    ("parse", "value", "told"),
    [
        (column.text, 3, "is not a text but 3"),
        (column.text, None, "is not a text but null"),
        (column.text, " \n\u00a0", "is blank"),
        (column.label, "", "is blank"),
        (column.label, None, "is not the name of a class but null"),
        (column.label, 1.5, "is not the name of a class but 1.5"),
        (column.label, math.nan, "is not the name of a class"),
        (column.label, ["a"], 'is not the name of a class but \\["a"\\]'),
        (column.labels, "a,b,a", "names a class twice"),
        (column.labels, ["a", " a"], "names a class twice"),
        (column.labels, ["a", None], "is not the name of a class but null"),
        (column.labels, 3, "is neither a list of class names nor a text but 3"),
        (column.number, "three", 'is not a number but "three"'),
        (column.number, "", "is not a number"),
        (column.number, True, "is not a number but true"),
        (column.number, None, "is not a number but null"),
        (column.number, "nan", "is not a finite number"),
        (column.number, math.inf, "is not a finite number"),
        (column.number, "1,5", "is not a number"),
    ],
)
def test_bad_values_are_told(parse: Callable[[object], Any], value: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(value)


def test_another_separator() -> None:
    assert column.labels("a;b, c", separator=";") == ["a", "b, c"]


def test_long_values_are_shortened() -> None:
    with pytest.raises(ValueError, match="…") as caught:
        column.number("x" * 1000)
    assert len(str(caught.value)) < 100
