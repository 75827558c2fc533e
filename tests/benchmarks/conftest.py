"""The programs in `benchmarks/`, imported as they import each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tunesmith.evaluate import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a program finds what stands beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # A program may draw intervals fewer times; what runs after it in this process must not.
    monkeypatch.setattr(stats, "RESAMPLES", stats.RESAMPLES)


@pytest.fixture
def in_process(paths: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """Every side runs in this process, which has its libraries loaded; gives the sides and cases that were run."""
    turns, ours, peer = (import_module(name) for name in ("pairs.turns", "pairs.ours", "peers.speed_trainer"))
    ran: list[tuple[str, Any]] = []

    def run(name: str, measure: Callable[[dict[str, Any]], dict[str, float]], more: dict[str, Any], case: Any) -> Any:
        ran.append((name, case))
        return {**measure(json.loads(case.told(**more))), "whole": 1.0}

    sides = {
        "ours": partial(run, "ours", ours.measure, {}),
        "plain": partial(run, "plain", ours.measure, {}),
        "command": partial(run, "command", ours.measure, {}),
        "Trainer": partial(run, "Trainer", peer.measure, {"best": True}),
        "Trainer, defaults": partial(run, "Trainer, defaults", peer.measure, {"best": False}),
    }
    monkeypatch.setattr(turns, "SIDES", sides)
    monkeypatch.setattr(import_module("pairs.machine"), "matrix_rate", lambda *_: 1e11)
    yield ran


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a program of that name with some arguments, and gives its module."""

    def call(name: str, *arguments: str) -> Any:
        module = import_module(name)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
        module.main()
        return module

    return call
