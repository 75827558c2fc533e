"""Weights & Biases: a run of a project, on its servers, a server of your own, or in local files."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PrivateAttr

from tunesmith.core.tracker import Tracked, Tracker


class Wandb(Tracker):
    """Tell Weights & Biases: curves as its history, the recipe as its config, figures and texts as its summary.

    The report goes up as an artifact. With `mode: offline` nothing leaves the machine before `wandb sync`.
    Parameters: none that train. Paper: none; wandb.init, Run.log, Run.summary, Run.log_artifact.
    """

    library: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"

    project: str = "tunesmith"
    """The project to which the run belongs."""
    entity: str | None = None
    """The user or team that owns the project; wandb's own choice where not given."""
    run_name: str | None = None
    """What wandb calls the run; by its folder where not given."""
    group: str | None = None
    """A name that runs which belong together have in common."""
    mode: Literal["online", "offline"] | None = None
    """Whether it is sent at once; wandb's own choice where not given."""

    _run: Any = PrivateAttr(None)

    def open(self, run: Tracked) -> str:
        """Begin a run under an id of our own, or go on with it; its files stand in the run's folder."""
        known = run.id or secrets.token_hex(4)
        self._run = self.module().init(
            project=self.project, entity=self.entity, name=self.run_name or run.name, group=self.group,
            id=known, resume="allow", config=dict(run.recipe), dir=str(run.folder),
            mode=self.mode,
        )  # fmt: skip
        return known

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """A line of its history."""
        self._run.log(dict(values), step=step)

    def text(self, name: str, text: str, step: int) -> None:
        """An entry of its summary."""
        self._run.summary.update({name: text})

    def summary(self, values: Mapping[str, float], step: int) -> None:
        """Entries of its summary."""
        self._run.summary.update(dict(values))

    def file(self, path: Path) -> None:
        """An artifact."""
        self._run.log_artifact(str(path), name=f"{path.stem}-{self._run.id}", type=path.stem)

    def close(self, ended: bool) -> None:
        """Wait until all is sent."""
        self._run.finish(exit_code=0 if ended else 1)
