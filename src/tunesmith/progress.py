"""How a training is shown while it goes on: a bar on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0


@contextmanager
def shown(console: Console) -> Iterator[Show]:
    """A watcher that shows on this console, while the block lasts."""
    show = Show(console)
    try:
        yield show
    finally:
        show.close()


class Show:
    """A watcher of the record: tells step, loss, rate, and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = 0
        self._said = time.perf_counter()
        self._began = (0, time.perf_counter())
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, line: dict[str, Any]) -> None:
        """Show one line of the record."""
        event = line["event"]
        if event in ("start", "resume"):
            self._open(line)
        elif event == "step":
            self._step(line)
        elif event == "evaluation":
            told = "  ".join(f"{name} {value:.4g}" for name, value in line["metrics"].items())
            self._console.print(f"validation after step {line['step']}: {told}", highlight=False)
        elif event == "end":
            self.close()

    def close(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _open(self, line: dict[str, Any]) -> None:
        self._total, self._began = line["total_steps"], (line["step"], time.perf_counter())
        if self._console.is_terminal:
            columns = (
                TextColumn("training"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[told]}"), TimeElapsedColumn(), TimeRemainingColumn(),
            )  # fmt: skip
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("training", total=self._total, completed=line["step"], told="")
            self._bar.start()

    def _step(self, line: dict[str, Any]) -> None:
        told = f"loss {line['loss']:.4f}  {line['examples_per_second']:.0f} examples/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=line["step"], told=told)
            return
        now = time.perf_counter()
        if now - self._said < PLAIN_SECONDS and line["step"] < self._total:
            return
        self._said = now
        done, since = line["step"] - self._began[0], now - self._began[1]
        left = since / max(1, done) * (self._total - line["step"])
        self._console.print(f"step {line['step']}/{self._total}  {told}  {left:.0f} s left", highlight=False)
