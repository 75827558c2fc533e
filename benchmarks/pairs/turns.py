"""Sides in turn, each run a process of its own in this process's group."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pairs import machine, ours
from pairs.case import Case

BENCHMARKS = Path(__file__).parent.parent
SPEED_TRAINER = BENCHMARKS / "peers" / "speed_trainer.py"
Found = dict[str, float]
Side = Callable[[Case], Found]
Results = dict[str, list[Found]]
"""By side, a result a turn."""


def child(command: list[str], cache: str) -> tuple[str, float]:
    """What a process says, and the seconds from its start to its end; one that fails ends the program."""
    environment = {**machine.environment(), "TUNESMITH_CACHE": cache}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)[:400]} failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip(), seconds


def program(path: Path, **more: Any) -> Side:
    """A side that is a program which takes the case as JSON and prints what it measured as JSON."""

    def run(case: Case) -> Found:
        # A new cache for every run: nothing that an earlier one read or encoded is there.
        with tempfile.TemporaryDirectory() as cache:
            said, seconds = child([sys.executable, str(path), case.told(**more)], cache)
        return {**json.loads(said.splitlines()[-1]), "whole": seconds}

    return run


def command(case: Case) -> Found:
    """`tunesmith train` as a user calls it: start, data, training, saving, the answers to the test rows."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, out = Path(folder) / "recipe.yaml", Path(folder) / "run"
        recipe.write_text(yaml.safe_dump(ours.values(json.loads(case.told()))), encoding="utf-8")
        train = [sys.executable, "-m", "tunesmith", "train", str(recipe), "--out", str(out), "--json"]
        _, seconds = child(train, f"{folder}/cache")
        return {"whole": seconds, "accuracy": ours.accuracy(out / "predictions" / "test.jsonl")}


SIDES: dict[str, Side] = {
    "ours": program(BENCHMARKS / "pairs" / "ours.py"),
    "plain": lambda case: SIDES["ours"](replace(case, speed="plain")),
    "command": command,
    "Trainer": program(SPEED_TRAINER, best=True),
    "Trainer, defaults": program(SPEED_TRAINER, best=False),
    "trl": program(BENCHMARKS / "peers" / "speed_trl.py"),
}
"""Every side by name. `Trainer` has its best flags; `plain` is ours with every shortcut off."""


class Kept:
    """Results in a file, so that a later call of a program that was interrupted goes on; without a file, none."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self.known: dict[str, Found] = dict(json.loads(line) for line in lines)

    def side(self, name: str, side: str, case: Callable[[int], Case]) -> Callable[[int], Found]:
        """The side as a function of the turn, run only where its result is not known."""

        def run(turn: int) -> Found:
            key = f"{name}, {side}, {turn}"
            if key not in self.known:
                self.known[key] = SIDES[side](case(turn))
                if self.path is not None:
                    with self.path.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps([key, self.known[key]]) + "\n")
            return self.known[key]

        return run


def take_turns(sides: Mapping[str, Callable[[int], Found]], pairs: int, tell: Callable[[Results], None]) -> Results:
    """Run every side once a turn, forwards and backwards in turn, so that what the machine does beside hits all alike.

    Each side is called with the number of the turn. `tell` is called after every run.
    """
    found: Results = {name: [] for name in sides}
    for turn in range(pairs):
        for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
            found[name].append(sides[name](turn))
            print(turn, name, {key: round(value, 3) for key, value in found[name][-1].items()}, flush=True)
            tell(found)
    return found
