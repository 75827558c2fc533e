"""What a tracker is: a place outside the run's record that is told the same. Only what a recipe names is told anything.

A tracker is a part: one class in one file of `trackers/`. It may fail at any time: the training goes on
(`train/tracking.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.core.errors import MissingExtraError
from tunesmith.core.part import Part

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.core.world import World


@dataclass(frozen=True)
class Tracked:
    """The run that is tracked.

    name: what people call it. folder: its own. recipe: its values. id: what the tracker gave when it began; empty where
    it begins.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    id: str = ""


class Tracker(Part):
    """Tells another library what a run's record says."""

    by_hand: ClassVar[bool] = False
    library: ClassVar[str]
    """The module without which it can't work; it is imported when the run begins."""
    extra: ClassVar[str] = ""
    """The extra of tunesmith that brings it; empty where none does."""

    def check(self, model: nn.Module | None = None, world: World | None = None) -> None:
        """Refuse to begin where the library is not installed: MissingExtraError."""
        if importlib.util.find_spec(self.library) is None:
            package = f"'tunesmith[{self.extra}]'" if self.extra else self.library
            raise MissingExtraError(
                f"track: {self.word()} needs the library '{self.library}', which is not installed.",
                hint=f"Install it: pip install {package}. Or leave {self.word()} out of `track`.",
            )

    @classmethod
    def module(cls, name: str = "") -> Any:
        """The library, or another module of this name, imported now."""
        return importlib.import_module(name or cls.library)

    def open(self, run: Tracked) -> str:
        """Begin the tracker's run, or go on with the one of `run.id`; returns its id."""
        raise NotImplementedError

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, after an update; all of them finite."""
        raise NotImplementedError

    def text(self, name: str, text: str, step: int) -> None:
        """A text."""
        raise NotImplementedError

    def summary(self, values: Mapping[str, float], step: int) -> None:
        """What was measured when all was over: as numbers of the last step, unless a tracker has a better place."""
        self.numbers(values, step)

    def file(self, path: Path) -> None:
        """A file of the run: its report."""

    def close(self, ended: bool) -> None:
        """No more comes. ended: whether the run did; else it was interrupted or failed, and may go on later."""
