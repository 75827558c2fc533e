"""Look on while a run trains: its record is followed as it grows, and nothing of the run is touched.

A folder may be a run, one of several tasks, or hold several runs (stages): then the one that was written to last is
shown. Watching ends when the run does, or with Ctrl-C.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.live import Live

from tunesmith.core.errors import RunFolderError
from tunesmith.report.live import View, line_of, picture
from tunesmith.report.record import Event

RECIPE, METRICS, EVALUATION, LOCK = "recipe.yaml", "metrics.jsonl", "evaluation.json", ".lock"
SECONDS = 1.0
"""How long to wait between two looks."""
FRESH = 5.0
"""Seconds after a line of the record in which its run needs no other sign of life."""
BETWEEN = 60.0
"""Seconds in which a folder of several runs may begin the next."""
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"


class Tail:
    """The lines of a record as they come. A line that is not whole yet waits until it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self.unread = 0
        self._file: tuple[int, int] = (0, 0)
        self._rest = b""

    def more(self) -> list[Event]:
        """The events that are new. A record that was written anew, as by a resumed run, is read from its beginning."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return []
        inode, place = self._file
        if found.st_ino != inode or found.st_size < place:
            self.events, self.unread, self._rest, place = [], 0, b"", 0
        with self.path.open("rb") as stream:
            stream.seek(place)
            text = stream.read()
        self._file = found.st_ino, place + len(text)
        *whole, self._rest = (self._rest + text).split(b"\n")
        new = [event for event in map(self._event, whole) if event is not None]
        self.events += new
        return new

    def _event(self, text: bytes) -> Event | None:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
        self.unread += 1
        return None


def watch(folder: Path, console: Console, once: bool = False) -> None:
    """Show a run until it ends: curves on a terminal, plain lines elsewhere. once: print one picture and leave.

    Raises RunFolderError where there is no run.
    """
    followed = Followed(folder)
    followed.look()
    with suppress(KeyboardInterrupt):
        if once:
            console.print(_picture(followed, console, None))
        elif console.is_terminal:
            _live(followed, console)
        else:
            _plain(followed, console)


def facts(folder: Path) -> dict[str, Any]:
    """Where a run stands now, as plain values. Raises RunFolderError where there is no run."""
    followed = Followed(folder)
    followed.look()
    view = followed.view
    return {**view.facts(), **({"runs": dict(view.others)} if view.others else {})}


class Followed:
    """A folder, and what is known of the run in it that is shown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.view = View(folder.name)
        self._tail: Tail | None = None
        self._idle = time.monotonic()

    def look(self) -> list[Event]:
        """Look again; returns what is new of the run that is shown."""
        runs = runs_in(self.folder)
        shown = max(runs, key=_written)
        if self._tail is None or self._tail.path.parent != shown:
            self._tail = Tail(shown / METRICS)
        new = self._tail.more()
        states = {run.name: state(run) for run in runs} if len(runs) > 1 or shown != self.folder else {}
        self.view = View(str(shown), state(shown), self._tail.events, states, self._tail.unread)
        if new or RUNNING in (self.view.state, *states.values()):
            self._idle = time.monotonic()
        return new

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        if self.view.state == RUNNING:
            return False
        wait = BETWEEN if self.view.others and self.view.state == FINISHED else 0.0
        return time.monotonic() - self._idle >= wait


def runs_in(folder: Path) -> list[Path]:
    """The run in a folder, or the runs in folders of it; none raises RunFolderError."""
    if not folder.is_dir():
        raise RunFolderError(
            f"The run folder {folder} does not exist.",
            hint="Give a folder that `train` writes; it is there once rows and model were found right.",
        )
    if _is_run(folder):
        return [folder]
    found = sorted(one for one in folder.iterdir() if one.is_dir() and _is_run(one))
    if not found:
        raise RunFolderError(f"The folder {folder} holds no run.", hint="Give a folder that `train` writes.")
    return found


def state(run: Path) -> str:
    """Whether a run is finished, is running, or stopped before its end."""
    if (run / EVALUATION).is_file():
        return FINISHED
    return RUNNING if time.time() - _written(run) < FRESH or _is_held(run / LOCK) else STOPPED


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (RECIPE, METRICS))


def _written(run: Path) -> float:
    """When something was last written to a run's record, or to its recipe."""
    times = [(run / name).stat().st_mtime for name in (METRICS, RECIPE) if (run / name).is_file()]
    return max(times, default=0.0)


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock. One that can't be looked at is taken to be held."""
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _picture(followed: Followed, console: Console, height: int | None) -> Any:
    plain = not console.encoding.lower().startswith("utf")
    return picture(followed.view, console.width, height, plain=plain)


def _live(followed: Followed, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_picture(followed, console, console.height), refresh=True)
            if followed.ended:
                return
            time.sleep(SECONDS)
            followed.look()


def _plain(followed: Followed, console: Console) -> None:
    new, shown = followed.view.events, ""
    while True:
        view = followed.view
        if view.name != shown:
            shown = view.name
            console.print(f"{shown}: {view.state}", markup=False, highlight=False, soft_wrap=True)
        for told in filter(None, (line_of(event, view) for event in new)):
            console.print(told, markup=False, highlight=False, soft_wrap=True)
        if followed.ended:
            console.print(f"{shown}: {view.state}", markup=False, highlight=False, soft_wrap=True)
            return
        time.sleep(SECONDS)
        new = followed.look()
