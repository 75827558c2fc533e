"""Nothing silent: what was changed, dropped, cut or chosen is said once, through the logger `tunesmith`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("tunesmith")


def note(text: str) -> None:
    """Say `text` to the user and to whoever listens (the run's record)."""
    LOGGER.info(text)


def warn(text: str) -> None:
    """Say `text` where the user must notice it."""
    LOGGER.warning(text)


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class _Once(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._said
        self._said.add(text)
        return new


class _About(logging.Filter):
    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = f"{self._what}: {record.getMessage()}", None
        return True


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say inside the block what each sentence is about: `b.csv: …`."""
    one = _About(what)
    # Before all others, so that the same sentence about two things is two sentences to them.
    LOGGER.filters.insert(0, one)
    try:
        yield
    finally:
        LOGGER.removeFilter(one)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect every note said inside the block; a text that was said in it already is not said again."""
    listener = _Listener()
    once = _Once()
    LOGGER.addFilter(once)
    LOGGER.addHandler(listener)
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    try:
        yield listener.texts
    finally:
        LOGGER.removeHandler(listener)
        LOGGER.removeFilter(once)
        LOGGER.setLevel(before)


@contextmanager
def silent() -> Iterator[None]:
    """Say nothing inside the block: what happens there is only tried out."""
    before, LOGGER.disabled = LOGGER.disabled, True
    try:
        yield
    finally:
        LOGGER.disabled = before
