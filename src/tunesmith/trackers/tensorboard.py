"""TensorBoard: event files, which `tensorboard --logdir` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import PrivateAttr

from tunesmith.core.tracker import Tracked, Tracker


class Tensorboard(Tracker):
    """Write the run's curves and texts as TensorBoard's event files; nothing leaves the machine.

    A resumed run goes on in the same folder. The report stays beside it, as TensorBoard keeps no files.
    Parameters: none that train. Paper: none; torch.utils.tensorboard.SummaryWriter.
    """

    library: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "tensorboard"

    folder: str | None = None
    """Where runs have their folders; `tensorboard` in the run's own folder where not given."""

    _writer: Any = PrivateAttr(None)

    def open(self, run: Tracked) -> str:
        """A writer in the run's folder of events."""
        place = run.folder / "tensorboard" if self.folder is None else Path(self.folder) / run.name
        folder = run.id or str(place)
        self._writer = self.module("torch.utils.tensorboard").SummaryWriter(folder)
        if not run.id:
            self.text("recipe", yaml.safe_dump(dict(run.recipe), sort_keys=False), 0)
        return folder

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """A scalar each; written at once, so that whoever watches sees them."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def text(self, name: str, text: str, step: int) -> None:
        """A text, shown as it is written: TensorBoard reads Markdown, where four spaces begin a block of code."""
        self._writer.add_text(name, "".join(f"    {line}\n" for line in text.splitlines()), step)

    def close(self, ended: bool) -> None:
        """Write what is left."""
        self._writer.close()
