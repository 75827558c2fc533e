"""Numbers as a person reads them."""

from __future__ import annotations

import doctest

import pytest

from tunesmith.core.panel import Figure
from tunesmith.report import wording
from tunesmith.report.wording import cell, duration, interval, listing, number, printable, shorten, size, title


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(wording).failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (1.0, "1.000"),
        (0.91304, "0.913"),
        (-0.5, "-0.500"),
        (3.14159, "3.142"),
        (12.3456, "12.35"),
        (20.0, "20"),
        (999.96, "1000"),
        (1234.5, "1,234"),
        (0.005124, "0.00512"),
        (1.2e-7, "1.2e-7"),
        (7, "7"),
        (1234567, "1,234,567"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_cells_keep_texts_and_leave_nothing_blank() -> None:
    assert [cell("007"), cell(None), cell(0.5)] == ["007", "", "0.500"]


def test_an_interval_needs_both_ends() -> None:
    assert interval(Figure("accuracy", 0.9, low=0.85, high=0.95)) == "0.850 to 0.950"
    assert interval(Figure("accuracy", 0.9, low=0.85)) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.9, "1 min"), (3600, "1 h"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(999_900, "1 MB"), (3.42e9, "3.42 GB"), (2e12, "2 TB")])
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


def test_texts() -> None:
    assert title("macro_f1") == "Macro f1"
    assert [listing([]), listing(["a"]), listing(["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert shorten("a long text", 7) == "a long…"
    assert printable("\x1b[31mred\x07\n") == "[31mred\n"
