"""The peak is in bytes."""

from __future__ import annotations

from tunesmith.core.peak import peak_memory


def test_memory_is_that_of_the_process() -> None:
    # A Python with torch holds some hundred megabytes; a unit that is wrong is off by a thousand.
    assert 1e8 < peak_memory() < 1e11
