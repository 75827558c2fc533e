"""Ctrl-C asks for an end after the current step; a second one ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from tunesmith.core.notes import warn


class Interrupted(KeyboardInterrupt):
    """A training within a larger piece of work was interrupted; it is saved, and goes on when the work is done again.

    No fault of anybody: as a KeyboardInterrupt it passes whoever turns faults into messages.
    """


class Interrupt:
    """While active, catches SIGINT and SIGTERM; `asked` tells whether one came."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, object] = {}

    def asked(self) -> bool:
        """Whether the user asked for an end."""
        return self._asked

    def __enter__(self) -> Interrupt:
        # Only the main thread may set handlers; elsewhere (a notebook's worker) there is nothing to catch.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        warn("Stopping after this step; the run is saved first. Once more ends it at once.")
