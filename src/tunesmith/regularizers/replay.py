"""Replay: examples of earlier stages, or of a file, in every update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Part
from tunesmith.core.step import Step, Training
from tunesmith.core.world import Old, World


class Replay(Part):
    """Train on old examples beside the new ones, so that what they taught is not lost.

    Formula: L = L_new + strength * (mean over the old examples' targets of their task's loss).
    Symbols: for a micro-batch of m new examples max(1, round(share * m)) old ones are drawn, with replacement, from a
    reservoir of `size` that is drawn once; each micro-batch asks one earlier stage, all as often. Shapes: a scalar a
    micro-batch, in its share of the update.
    Paper: the idea is old (Robins, "Catastrophic Forgetting, Rehearsal and Pseudorehearsal", 1995); Ouyang et al.,
    "Training Language Models to Follow Instructions with Human Feedback", 2022, mix in a tenth of pre-training data.
    The heads of earlier stages stay as they were.
    """

    by_hand: ClassVar[bool] = False

    strength: float = Field(1.0, ge=0)
    """Weight of the old examples' loss."""
    share: float = Field(0.2, gt=0)
    """Old examples for each new one."""
    size: int = Field(1000, ge=1)
    """How many old examples there are to draw from, over all earlier stages."""
    data: str | None = None
    """A file of rows like the training file's, in the place of earlier stages: general text for a language model."""

    _sources: list[_Source] = PrivateAttr(default_factory=list)
    _draw: torch.Generator | None = PrivateAttr(default=None)

    @property
    def looks_back(self) -> bool:
        """Where no file is named."""
        return self.data is None

    def check(self, model: nn.Module, world: World) -> None:
        """Without an earlier stage and without a file there is nothing to replay: RecipeError."""
        if self.strength and self.data is None and not world.earlier:
            raise RecipeError(
                "replay: there is nothing to replay: no stage comes before this one, and no file is named.",
                hint="Name a file of old examples with `data`, or use it in a later stage.",
            )

    def setup(self, training: Training) -> None:
        """Draw the reservoir."""
        world = training.world
        if not self.strength:
            return
        assert world is not None
        self._draw = training.generator_of(self)
        olds = world.old(self.data)
        self._sources = []
        for place, old in enumerate(olds):
            count = min(len(old.rows), self.size // len(olds) + (place < self.size % len(olds)))
            numbers = torch.randperm(len(old.rows), generator=self._draw)[:count].tolist()
            model = None if old.shell is None else world.cast(old.shell(anatomy.backbone(training.model)))
            self._sources.append(_Source(old, old.encode(numbers, world.limit), model))

    def loss(self, step: Step) -> Tensor | None:
        """The old examples' mean loss, in this micro-batch's share."""
        if not self._sources:
            return None
        source = self._sources[self._number(len(self._sources))]
        wanted = max(1, round(self.share * len(step.batch.rows)))
        examples = [source.examples[self._number(len(source.examples))] for _ in range(wanted)]
        batch = source.old.collate(examples, [self._number(2**31) for _ in examples])
        device = next(step.model.parameters()).device
        old = Step(source.model or step.model, source.old.task, batch.to(device), unread=step.unread)
        targets = max(source.old.task.targets(batch), 1e-12)
        return self.strength * step.share * source.old.task.loss(old) / targets

    def state(self) -> dict[str, Any]:
        """Where the draws are."""
        return {} if self._draw is None else {"draw": self._draw.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on drawing from there."""
        if self._draw is not None:
            self._draw.set_state(state["draw"])

    def _number(self, below: int) -> int:
        return int(torch.randint(below, (1,), generator=self._draw).item())


@dataclass(frozen=True)
class _Source:
    """Where old examples come from: encoded, and the model that answers them; None: the one that trains."""

    old: Old
    examples: list[dict[str, Any]]
    model: nn.Module | None
