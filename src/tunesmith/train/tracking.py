"""Tells the trackers that a recipe names what the run's record says, and nothing else to nobody.

A tracker that fails does not stop the training: it is said once, and counted at the end. After a resume each goes on
with its own run, whose id stands in `trackers.json`, and is told no step twice.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.core.files import read_json, write_json
from tunesmith.core.notes import note, warn
from tunesmith.core.seeding import undrawn
from tunesmith.core.tracker import Tracked, Tracker
from tunesmith.train.log import Watcher, lines

FILE, METRICS = "trackers.json", "metrics.jsonl"
ENOUGH = 3
"""Failures in a row after which a tracker is told no more: each may have waited long for an answer."""
PLACES = ("event", "step", "part", "split")
"""What tells where a line belongs, and is no value of it."""


class Tracking:
    """A watcher of a record that tells others: one that looks on (`watch`), and trackers."""

    def __init__(self, trackers: Sequence[Tracker], run: Tracked, watch: Watcher | None = None) -> None:
        seen: Counter[str] = Counter()
        self._trackers: dict[str, Tracker] = {}
        for tracker in trackers:
            seen[tracker.word()] += 1
            count = seen[tracker.word()]
            self._trackers[tracker.word() if count == 1 else f"{tracker.word()} {count}"] = tracker
        self._run, self.watch = run, watch
        self._calls: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._in_a_row: Counter[str] = Counter()
        self._step = 0
        self._told: dict[str, int] = {}
        self.ended = False

    def __call__(self, line: dict[str, Any]) -> None:
        """Tell one line of the record, unless it was told before a resume."""
        if self.watch is not None:
            self.watch(line)
        self._step = max(self._step, line.get("step", 0))
        if line.get("step", self._step) > self._told.get(line["event"], -1):
            for name in self._trackers:
                self._tell(name, line)

    def begin(self) -> None:
        """Open every tracker. What the record holds already was told, but to those that could not be opened then."""
        if not self._trackers:
            return
        path, record = self._run.folder / FILE, self._run.folder / METRICS
        known = read_json(path) if path.is_file() else {"ids": {}, "told": {}}
        past = lines(record) if record.is_file() else []
        self._told = dict(known["told"])
        for line in past:
            self._step = max(self._step, line.get("step", 0))
            self._told[line["event"]] = max(self._told.get(line["event"], -1), line.get("step", -1))
        ids: dict[str, str] = {}
        for name in self._trackers:
            before = known["ids"].get(name, "")
            if found := self._try(name, "open", replace(self._run, id=before)):
                ids[name] = found
            else:
                self._in_a_row[name] = ENOUGH  # it has no run to tell anything
            for line in [] if before else past:
                self._tell(name, line)
        write_json(path, {"ids": known["ids"] | ids, "told": self._told})

    def finish(self, found: Mapping[str, Mapping[str, Any]], report: Path) -> None:
        """Tell what was said and measured, and give the report. found: contents of `evaluation.json`, by the name of
        a task, or the empty name where there is one task alone.
        """
        self.ended = True
        if not self._trackers:
            return
        said = [line["text"] for line in lines(self._run.folder / METRICS) if line["event"] == "note"]
        measured = {name: value for task, one in found.items() for name, value in figures(one, task).items()}
        for name in self._trackers:
            if said:
                self._try(name, "text", "notes", "\n".join(dict.fromkeys(said)), self._step)
            self._try(name, "summary", measured, self._step)
            self._try(name, "file", report)

    def close(self) -> None:
        """Close every tracker, and say what went wrong."""
        for name in self._trackers:
            self._try(name, "close", self.ended)
            if count := self._failures[name]:
                note(
                    f"The tracker '{name}' failed {count} of {self._calls[name]} times; what it was not told stands in "
                    f"{self._run.folder / METRICS}."
                )

    def _tell(self, name: str, line: Mapping[str, Any]) -> None:
        # Notes are told together when all are said.
        numbers, texts = ({}, {}) if line["event"] in ("note", "resume") else values(line)
        step = line.get("step", self._step)
        if numbers:
            self._try(name, "numbers", numbers, step)
        for title, text in texts.items():
            self._try(name, "text", title, text, step)

    def _try(self, name: str, act: str, *given: Any) -> Any:
        """What a tracker's method gives; None where it fails, or has failed too often to be asked."""
        self._calls[name] += 1
        if self._in_a_row[name] >= ENOUGH:
            self._failures[name] += 1
            return None
        try:
            # A library may draw random numbers, for a name say: the training's stay what they would be.
            with undrawn():
                found = getattr(self._trackers[name], act)(*given)
        except Exception as error:  # whatever another library may raise
            if not self._failures[name]:
                warn(f"The tracker '{name}' failed, and the run goes on: {type(error).__name__}: {error}")
            self._failures[name] += 1
            self._in_a_row[name] += 1
            return None
        self._in_a_row[name] = 0
        return found


@contextmanager
def tracked(
    trackers: Sequence[Tracker], folder: Path, recipe: Mapping[str, Any], watch: Watcher | None
) -> Iterator[Tracking]:
    """What watches the record of a run inside the block, and tells its trackers."""
    name = "-".join(folder.resolve().parts[-2:])
    tracking = Tracking(trackers, Tracked(name, folder, recipe), watch)
    tracking.begin()
    try:
        yield tracking
    finally:
        tracking.close()


def values(line: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers of a line of the record, by name, and its texts. What is no finite number is left out."""
    event = line["event"]
    before = {"step": "train", "evaluation": str(line.get("split", event))}.get(event, event)
    if "part" in line:
        before = f"{before}/{line['part']}"
    inside = line["metrics"] if event == "evaluation" else {k: v for k, v in line.items() if k not in PLACES}
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    for name, value in _flat(inside, before):
        if isinstance(value, str) and value:
            texts[name] = value
        elif isinstance(value, list) and value:
            texts[name] = json.dumps(value, ensure_ascii=False)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            numbers[name] = float(value)
    return numbers, texts


def figures(evaluation: Mapping[str, Any], task: str = "") -> dict[str, float]:
    """Every figure of every suite, with its interval, and the cost, by name: `task/test/accuracy`, of a baseline
    `task/test/accuracy of constant`; under the name of a task where one is given.
    """
    found: dict[str, Any] = {f"cost/{name}": value for name, value in evaluation.get("cost", {}).items()}
    for suite, result in evaluation["suites"].items():
        for one in result["figures"]:
            # No name is the folder of another: MLflow makes files of them.
            subject = "" if one["subject"] == "model" else f" of {one['subject']}"
            name = f"{suite}/{one['split']}/{one['name']}{subject}"
            found |= {name: one["value"], f"{name} low": one["low"], f"{name} high": one["high"]}
    return {
        f"{task}/{name}" if task else name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _flat(given: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}/{name}")
        else:
            yield f"{before}/{name}", value
