"""Collected faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.faults import Faults


def test_nothing_is_raised_without_faults() -> None:
    Faults(Path("a.csv")).raise_all()


def test_the_first_twenty_are_shown_and_all_are_counted() -> None:
    faults = Faults(Path("a.csv"))
    for number in range(1000):
        faults.add(f"line {number}: is bad", hint=f"hint {number}")
    with pytest.raises(DataError) as caught:
        faults.raise_all()
    assert caught.value.message.startswith("a.csv has 1,000 faults:\n  - line 0: is bad")
    assert "line 19:" in caught.value.message
    assert "line 20:" not in caught.value.message
    assert caught.value.message.endswith("… and 980 more")
    assert caught.value.hint == "hint 0"
