"""How a command ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import typer
from rich.console import Console

from tunesmith import exits
from tunesmith.core.errors import RecipeError


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (RecipeError("wrong", hint="mend it"), 2), (typer.Abort(), 130)]
)
def test_statuses(error: BaseException, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.status_of(raising(error), Console(stderr=True)) == status
    assert "Traceback" not in capsys.readouterr().err


def test_a_message_has_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    exits.status_of(raising(RecipeError("wrong [red]", hint="mend it")), Console(stderr=True))
    assert capsys.readouterr().err == "error: wrong [red]\n\nhint: mend it\n"


def test_what_a_command_returns_is_its_status() -> None:
    assert [exits.status_of(lambda given=given: given, Console()) for given in (None, 0, 3)] == [0, 0, 3]  # type: ignore[misc]


def test_a_fault_of_our_own_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        exits.status_of(raising(ZeroDivisionError()), Console())
    with pytest.raises(OSError, match="odd"):
        exits.status_of(raising(OSError("odd")), Console())
