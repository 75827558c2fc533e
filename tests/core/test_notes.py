"""What is said is heard by the user and by the run's record."""

import logging

import pytest

from tunesmith.core.notes import LOGGER, about, listening, note, warn


def test_listeners_hear_notes_and_warnings_in_order() -> None:
    with listening() as outer:
        note("one")
        with listening() as inner:
            warn("two")
        note("three")
    note("four")
    assert (outer, inner) == (["one", "two", "three"], ["two"])


def test_listening_leaves_no_trace() -> None:
    LOGGER.setLevel(logging.ERROR)
    try:
        with pytest.raises(KeyError), listening() as heard:
            note("heard all the same")
            raise KeyError
        assert heard == ["heard all the same"]
        assert LOGGER.level == logging.ERROR and LOGGER.handlers == []
    finally:
        LOGGER.setLevel(logging.NOTSET)


def test_levels(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tunesmith"):
        note("a")
        warn("b")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("INFO", "a"), ("WARNING", "b")]


def test_what_is_said_inside_names_what_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tunesmith"), listening() as heard:
        for name in ("a.csv", "b.csv", "a.csv"):
            with pytest.raises(KeyError), about(name):
                note("10 % of it")
                raise KeyError
        warn("outside")
    assert heard == ["a.csv: 10 % of it", "b.csv: 10 % of it", "outside"]
    assert caplog.messages == heard and LOGGER.filters == []
