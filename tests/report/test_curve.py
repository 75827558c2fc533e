"""Curves of braille signs: dots by hand."""

from __future__ import annotations

import math

import pytest

from tunesmith.report.curve import drawn


def test_dots_of_a_rising_line() -> None:
    # Two signs are four columns of dots; one line is four rows. A straight line goes from below left to above right.
    # Each column reaches to where the one before it was, so that there is no gap.
    left, right = 0x40 + (0x80 + 0x20), (0x04 + 0x02) + (0x10 + 0x08)
    assert drawn([0, 1, 2, 3], [0, 1, 2, 3], 2, 1) == [chr(0x2800 + left) + chr(0x2800 + right)]


@pytest.mark.parametrize("plain", [True, False])
def test_every_line_is_as_wide_as_asked(plain: bool) -> None:
    found = drawn(range(500), [math.sin(x / 40) for x in range(500)], 30, 5, plain=plain)
    assert [len(line) for line in found] == [30] * 5
    # No column is left out: neighbours are joined.
    assert all(any(line[column] != " " for line in found) for column in range(30))
    assert not plain or set("".join(found)) == {"*", " "}


def test_a_constant_lies_in_the_middle_and_two_points_are_joined() -> None:
    assert drawn([0, 9], [1.0, 1.0], 3, 1) == [chr(0x2800 + 0x02 + 0x10) * 3]
    first, second = drawn([0, 9], [1.0, 0.0], 4, 2)
    assert first.strip() and second.strip() and first.startswith(first.strip()) and second.endswith(second.strip())


def test_what_is_no_number_is_left_out() -> None:
    assert drawn([0, 1, 2], [1.0, math.nan, 1.0], 3, 1) == drawn([0, 2], [1.0, 1.0], 3, 1)
    assert drawn([], [], 3, 2) == ["   ", "   "]
    assert drawn([0], [math.inf], 2, 1) == ["  "]


def test_the_least_and_the_largest_of_a_column_are_drawn() -> None:
    (line,) = drawn([0, 0, 1], [0.0, 1.0, 0.0], 1, 1)
    assert ord(line) - 0x2800 == 0x01 + 0x02 + 0x04 + 0x40 + 0x80
