"""Ctrl-C asks once and ends the second time."""

import logging
import os
import signal
import threading

import pytest

from tunesmith.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_ends(number: int, caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        assert not interrupt.asked()
        os.kill(os.getpid(), number)
        assert interrupt.asked()
        with caplog.at_level(logging.WARNING, "tunesmith"):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_what_is_saved_is_said(caplog: pytest.LogCaptureFixture) -> None:
    # A shell that runs in the background leaves Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with caplog.at_level(logging.WARNING, "tunesmith"), Interrupt():
        os.kill(os.getpid(), signal.SIGINT)
    assert caplog.messages == ["Stopping after this step; the run is saved first. Once more ends it at once."]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_thread_of_a_notebook_catches_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[bool] = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.extend([interrupt.asked(), signal.getsignal(signal.SIGINT) is before])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]
