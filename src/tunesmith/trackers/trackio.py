"""Trackio: a run of a project, in local files or on a Space of the Hugging Face hub."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr

from tunesmith.core.tracker import Tracked, Tracker


class Trackio(Tracker):
    """Tell Trackio: curves, texts and figures as its log, the recipe as its config, the report as an artifact.

    Without a Space it stays on the machine, where `trackio show` shows it.
    Parameters: none that train. Paper: none; trackio.init, Run.log, Run.log_artifact.
    """

    library: ClassVar[str] = "trackio"
    extra: ClassVar[str] = "trackio"

    project: str = "tunesmith"
    """The project to which the run belongs."""
    run_name: str | None = None
    """What Trackio calls the run, before some signs that make it unique; by its folder where not given."""
    group: str | None = None
    """A name that runs which belong together have in common."""
    space: str | None = None
    """A Space of the hub to which everything is sent: `user/name`."""

    _run: Any = PrivateAttr(None)

    def open(self, run: Tracked) -> str:
        """Begin a run, or go on with it: Trackio knows a run by its name."""
        known = run.id or f"{self.run_name or run.name}-{secrets.token_hex(4)}"
        self._run = self.module().init(
            project=self.project, name=known, group=self.group, space_id=self.space, config=dict(run.recipe),
            resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        return known

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """A line of its log."""
        self._run.log(dict(values), step=step)

    def text(self, name: str, text: str, step: int) -> None:
        """A line of its log."""
        self._run.log({name: text}, step=step)

    def file(self, path: Path) -> None:
        """An artifact."""
        self._run.log_artifact(str(path), name=path.stem, type=path.stem)

    def close(self, ended: bool) -> None:
        """Wait until all is written."""
        self._run.finish()
