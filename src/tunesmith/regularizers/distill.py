"""Distill: keep saying what the starting model said, on the new examples (learning without forgetting)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from tunesmith.core import anatomy, words
from tunesmith.core.errors import RecipeError
from tunesmith.core.panel import Panel
from tunesmith.core.part import Part
from tunesmith.core.step import Step, Training
from tunesmith.core.tokens import IGNORED
from tunesmith.core.world import World
from tunesmith.regularizers.distill_words import divergence, of_words
from tunesmith.regularizers.start_outputs import Before, Remembering


class Distill(Part):
    """Let the heads of earlier stages, or a language model's own, answer the new examples as they did at the start.

    Formula: strength * T^2 * mean over answers of KL(softmax(z0 / T) || softmax(z / T)); of an answer that is a number,
    (z - z0)^2.
    Symbols: z what a head says of a new example now, z0 what it said before step 0; T the temperature. Shapes: z and z0
    [examples, classes], of a language model [positions with a loss, words]; a scalar a micro-batch, in its share.
    Paper: Li and Hoiem, "Learning without Forgetting", 2016, with T = 2 and strength 1. There the old heads are trained
    on; here they stay as they were.
    """

    by_hand: ClassVar[bool] = False

    strength: float = Field(1.0, ge=0)
    """Weight of the penalty."""
    temperature: float = Field(2.0, gt=0)
    """What scores are divided by: the higher, the more the unlikely answers count."""

    _before: Before | None = PrivateAttr(default=None)
    _bodies: list[Remembering] = PrivateAttr(default_factory=list)
    _heads: list[_Head] = PrivateAttr(default_factory=list)
    _shortcuts: ExitStack | None = PrivateAttr(default=None)

    @property
    def looks_back(self) -> bool:
        """Always: with no stage before it, there is nothing that was taught and is to be kept."""
        return True

    def check(self, model: nn.Module, world: World) -> None:
        """A head that is fresh has said nothing yet: without earlier stages RecipeError."""
        silent = anatomy.head(model) or anatomy.output_layer(model) is None
        if self.strength and not world.earlier and silent:
            raise RecipeError(
                "distill: the head of this task is new, and no stage comes before this one: there are no answers to "
                "stay close to.",
                hint="Use it in a later stage, or with a task whose scores were trained before, such as generate.",
            )

    def setup(self, training: Training) -> None:
        """Keep the starting model, and put every old head over both bodies."""
        world = training.world
        if not self.strength:
            return
        assert world is not None
        model, before = training.model, Before(training)
        now = [old.shell(anatomy.backbone(model)) for old in world.earlier if old.shell is not None]
        then = [before.over(one, model) for one in now]
        # Heads of one class read the same tokens: others may be left out.
        kinds = {type(one) for one in now}
        self._shortcuts = ExitStack()
        if before.model is not model:
            asked = then[0] if then else before.model
            self._shortcuts.enter_context(world.answering(asked, len(kinds) < 2))
            before.model = before.model if then else world.cast(before.model)
        if now:
            live = Remembering(anatomy.backbone(model), listens=True, whole=kinds != {type(model)})
            kept = Remembering(before.body)
            pairs = zip(now, then, strict=True)
            self._heads = [_Head(world.cast(live.under(one)), world.cast(kept.under(other))) for one, other in pairs]
            self._bodies = [live, kept]
        self._before = before

    def loss(self, step: Step) -> Tensor | None:
        """The penalty, in this micro-batch's share."""
        if self._before is None:
            return None
        found = [self._of_head(head, step) for head in self._heads] or [self._of_words(step)]
        for body in self._bodies:
            body.forget()
        return self.strength * step.share * torch.stack(found).sum()

    def end(self, training: Training, evaluate: Callable[[], Mapping[str, float]]) -> Sequence[Panel]:
        """Let go of the starting model."""
        if self._shortcuts is not None:
            self._shortcuts.close()
        for body in self._bodies:
            body.leave()
        self._before, self._shortcuts, self._bodies, self._heads = None, None, [], []
        return ()

    def _of_head(self, head: _Head, step: Step) -> Tensor:
        """An old head's mean penalty over the new examples."""
        assert self._before is not None
        inputs: dict[str, Any] = {name: step.batch.inputs[name] for name in step.batch.inputs if name != "labels"}
        mask = inputs.get("attention_mask")
        with self._before.acting():
            before = _rows(head.before(**inputs).logits, mask)
        now = _rows(head.now(**inputs).logits, mask)
        if now.shape[-1] == 1:
            return ((now.float() - before.float()) ** 2).mean()
        return divergence(now, before, self.temperature) / len(now)

    def _of_words(self, step: Step) -> Tensor:
        """A language model's mean penalty over the positions that carry loss."""
        assert self._before is not None
        chosen = step.batch.fields["targets"] != IGNORED
        with self._before.acting():
            told = words.read(replace(step, model=self._before.model, kept={}), chosen)
        return of_words(words.read(step, chosen), told, self.temperature) / max(1, int(chosen.sum()))


def _rows(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Answers in rows, [answers, classes]: of [examples, time, classes] those of real tokens."""
    if logits.dim() == 3 and mask is not None and mask.shape == logits.shape[:2]:
        return logits[mask.bool()]
    return logits.flatten(0, -2)


@dataclass(frozen=True)
class _Head:
    """An old head over the body as it is now, and as it was."""

    now: Callable[..., Any]
    before: Callable[..., Any]
