"""What every tracker keeps: without its library it is refused, with the line that installs it."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import pytest

from tunesmith.core import registry, tracker
from tunesmith.core.errors import MissingExtraError
from tunesmith.core.tracker import Tracker


class Elsewhere(Tracker):
    """One of another package."""

    library: ClassVar[str] = "no_such_library"


def test_without_its_library_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingExtraError, match=r"elsewhere needs the library 'no_such_library'") as caught:
        Elsewhere().check()
    assert "pip install no_such_library." in caught.value.hint
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="not installed") as caught:
        registry.build("trackers", "wandb").check(None, None)  # type: ignore[arg-type]
    assert "pip install 'tunesmith[wandb]'" in caught.value.hint


def test_with_its_library_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = importlib.util.find_spec("json")
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: found)
    Elsewhere().check()


def test_the_library_is_imported_when_it_is_asked_for() -> None:
    with pytest.raises(ModuleNotFoundError):
        Elsewhere.module()
    assert Elsewhere.module("json").dumps(1) == "1"
