"""Names of what is kept: another one for whatever would be read or encoded otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tunesmith.core import registry
from tunesmith.core.part import Task
from tunesmith.data import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def task(**settings: Any) -> Task:
    found = registry.build("tasks", {"name": "classify", **settings})
    assert isinstance(found, Task)
    found.learn([{"label": "a"}, {"label": "b"}])
    return found


def test_examples_of_the_same_have_the_same_file() -> None:
    assert cache.examples(task(), "rows", 512) == cache.examples(task(), "rows", 512)
    assert cache.examples(task(), "rows", 512).parent == cache.folder()


def test_whatever_changes_examples_changes_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = task()
    learned.learn([{"label": "a"}, {"label": "c"}])
    found = [
        cache.examples(task(), "rows", 512),
        cache.examples(task(), "rows", 128),
        cache.examples(task(), "other rows", 512),
        cache.examples(task(max_length=64), "rows", 512),
        cache.examples(learned, "rows", 512),
    ]
    monkeypatch.setattr(cache, "version", lambda name: "another")
    found.append(cache.examples(task(), "rows", 512))
    assert len(set(found)) == len(found)


def test_another_code_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A class of another package, whose folder holds what it shares with its neighbours.
    module = ModuleType("some_parts")
    module.__file__ = str(tmp_path / "some_parts.py")
    monkeypatch.setitem(sys.modules, "some_parts", module)
    own = type("Own", (type(task()),), {"__module__": "some_parts", "__doc__": "A task."})
    names = []
    for text in ("one", "two"):
        (tmp_path / "beside.py").write_text(text, encoding="utf-8")
        cache._code.cache_clear()
        names.append(cache._code(own))
    assert names[0] != names[1]
    assert cache._code(type(task())) not in names
