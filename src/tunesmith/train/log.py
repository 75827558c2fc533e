"""The record of a run: `metrics.jsonl`, one JSON object a line, and whoever watches.

Events: `start`, `resume`, `step` (a mean over the updates since the last line; `trained` is how many parameters train
from there on; `gradients` the norm of the last update's gradient at each place of the model, null where it is frozen),
`evaluation`, `note`, `end`, `found` (what a part found at the end), `frozen` (what frozen blocks gave and was kept),
`files` (how many examples of each of several files were trained on), `memory`.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith.core.errors import UserError
from tunesmith.core.files import explain_disk, finite, write_text

Watcher = Callable[[dict[str, Any]], None]


class Log:
    """Appends lines to `metrics.jsonl` and tells a watcher of each."""

    def __init__(self, path: Path, watch: Watcher | None = None) -> None:
        self.path = path
        self.watch = watch
        self._sums: dict[str, float] = defaultdict(float)
        self._updates = 0
        self._examples = 0
        self._since = time.perf_counter()
        self.aside: dict[str, float] = defaultdict(float)
        """Seconds of what `paused` the clock, by its name."""

    def write(self, event: str, **values: Any) -> None:
        """One line. Numbers that JSON has not (NaN, infinity) become null."""
        line = {"event": event, **values}
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(finite(line), ensure_ascii=False) + "\n")
        except OSError as error:
            raise explain_disk(error, self.path) from error
        if self.watch is not None:
            self.watch(line)

    def update(self, losses: dict[str, float], examples: int) -> None:
        """Add one update's losses to the running means."""
        for name, value in losses.items():
            self._sums[name] += value
        self._updates += 1
        self._examples += examples

    def step(self, **values: Any) -> None:
        """Write the means since the last such line, with examples and seconds of training, and start anew."""
        means = {name: value / self._updates for name, value in self._sums.items()}
        seconds = max(1e-9, time.perf_counter() - self._since)
        cost = {"examples": self._examples, "seconds": seconds, "examples_per_second": self._examples / seconds}
        self.write("step", loss=sum(means.values()), losses=means, **cost, **values)
        self.restart()

    def restart(self) -> None:
        """Start the running means and the clock anew."""
        self._sums.clear()
        self._updates = self._examples = 0
        self._since = time.perf_counter()

    @contextmanager
    def paused(self, by: str) -> Iterator[None]:
        """Inside the block the clock of the training stands still; its seconds are counted aside."""
        began = time.perf_counter()
        yield
        passed = time.perf_counter() - began
        self._since += passed
        self.aside[by] += passed

    def forget_after(self, step: int) -> None:
        """Remove the lines of steps after `step`, which a resumed run writes again."""
        if self.path.exists():
            kept = [line for line in lines(self.path) if line.get("step", 0) <= step and line["event"] != "end"]
            write_text(self.path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a record; a last line that a kill cut off is passed over."""
    found = []
    # As bytes: a text may hold characters that end a line for Python, but not for JSON Lines.
    texts = path.read_bytes().split(b"\n")
    texts = texts[:-1] if not texts[-1] else texts
    for number, text in enumerate(texts, start=1):
        try:
            found.append(json.loads(text))
        except ValueError:
            if number < len(texts):
                raise UserError(f"The file {path} is damaged in line {number}.") from None
    return found
