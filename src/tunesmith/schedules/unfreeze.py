"""Gradual unfreezing: the head first, then block after block from the top."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import nn

from tunesmith.core import surgery
from tunesmith.core.notes import note
from tunesmith.core.part import Schedule
from tunesmith.core.places import check_trained, places
from tunesmith.core.step import Training


class Unfreeze(Schedule):
    """Train the head alone at first, then open the blocks from the top to the bottom, and the embeddings last.

    Formula: at update t the places above n + 1 - first - floor(t / s) train, and all that opened before.
    Symbols: n blocks; s updates from one opening to the next; places as in `layerwise`: embeddings 0, blocks 1 … n.
    Shapes: whole parameters. What is closed has no gradient and no state in the optimizer; what is open keeps its own.
    Paper: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, section 3.3, with one
    epoch from one opening to the next. Only what the method trains opens.
    """

    sets: ClassVar[str] = "what trains"

    epochs: float = Field(1.0, gt=0)
    """Epochs from one opening to the next."""
    steps: int | None = Field(None, ge=1)
    """Updates from one opening to the next, in the place of `epochs`."""
    first: int = Field(0, ge=0)
    """How many blocks train from the beginning, beside the head."""

    _closed: dict[int, list[str]] = PrivateAttr(default_factory=dict)
    _blocks: int = PrivateAttr(default=0)
    _training: Training | None = PrivateAttr(default=None)

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Look at the model, and change nothing: one of which nothing but the head trains raises RecipeError."""
        check_trained(model, "unfreeze", "opens")

    def setup(self, training: Training) -> None:
        """Close what is not open yet."""
        self._training = training
        found, trained = places(training.model), surgery.trained(training.model)
        at = {place: [name for name in found.names([place]) if name in trained] for place in range(found.above)}
        self._blocks = found.blocks
        self._closed = {place: names for place, names in at.items() if names and place <= found.blocks - self.first}
        training.freeze([name for names in self._closed.values() for name in names])
        late = [place for place in self._closed if self._opens(training, place) >= training.total_steps]
        if late:
            note(
                f"unfreeze: {len(late)} of {len(self._closed)} groups of weights never open: the training is too short."
            )

    def after_step(self, training: Training) -> None:
        """Open what opens now."""
        for place in sorted(self._closed, reverse=True):
            if self._opens(training, place) <= training.step:
                training.thaw(self._closed.pop(place))

    def state(self) -> dict[str, Any]:
        """The places that are closed."""
        return {"closed": list(self._closed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Open what was open."""
        assert self._training is not None
        for place in set(self._closed) - set(state["closed"]):
            self._training.thaw(self._closed.pop(place))

    def _opens(self, training: Training, place: int) -> int:
        """The update after which a place opens: the highest closed one first."""
        each = self.steps or max(1, math.ceil(self.epochs * training.updates_an_epoch - 1e-9))
        return each * (self._blocks - self.first - place + 1)
