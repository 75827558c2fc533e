"""Distill: keep saying what the starting model said, on the new examples (learning without forgetting)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from tunesmith.core import anatomy, words
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Part
from tunesmith.core.step import Step, Training
from tunesmith.core.tokens import IGNORED
from tunesmith.core.world import World
from tunesmith.regularizers.start_outputs import Before, Remembering


def divergence(now: Tensor, before: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(before / T) || softmax(now / T)), summed over rows: scores [rows, classes] -> a scalar."""
    told, said = (log_softmax(scores.float() / temperature, dim=-1) for scores in (before, now))
    return temperature**2 * (told.exp() * (told - said)).sum()


class Distill(Part):
    """Let the heads of earlier stages, or a language model's own, answer the new examples as they did at the start.

    Formula: strength * T^2 * mean over answers of KL(softmax(z0 / T) || softmax(z / T)); of an answer that is a number,
    (z - z0)^2.
    Symbols: z what a head says of a new example now, z0 what it said before step 0; T the temperature. Shapes: z and z0
    [examples, classes], of a language model [positions with a loss, words]; a scalar a micro-batch, in its share.
    Paper: Li and Hoiem, "Learning without Forgetting", 2016, with T = 2 and strength 1. There the old heads are trained
    on; here they stay as they were.
    """

    strength: float = Field(1.0, ge=0)
    """Weight of the penalty."""
    temperature: float = Field(2.0, gt=0)
    """What scores are divided by: the higher, the more the unlikely answers count."""

    _before: Before | None = PrivateAttr(default=None)
    _bodies: list[Remembering] = PrivateAttr(default_factory=list)
    _heads: list[_Head] = PrivateAttr(default_factory=list)

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
        self._before = Before(training)
        self._bodies = [Remembering(anatomy.backbone(training.model)), Remembering(self._before.body)]
        self._heads = [
            _Head(*(world.cast(body.under(old.shell(body.body))) for body in self._bodies))
            for old in world.earlier
            if old.shell is not None
        ]
        if not anatomy.head(training.model) and self._before.model is not training.model:
            self._before.model = world.cast(self._before.model)

    def loss(self, step: Step) -> Tensor | None:
        """The penalty, in this micro-batch's share."""
        if self._before is None:
            return None
        found = [self._of_head(head, step) for head in self._heads] or [self._of_words(step)]
        for body in self._bodies:
            body.forget()
        return self.strength * step.share * torch.stack(found).sum()

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
            told = [
                scores for _, scores in words.read(replace(step, model=self._before.model, kept={}), chosen).scores()
            ]
        said = [scores for _, scores in words.read(step, chosen).scores()]
        total = sum((divergence(a, b, self.temperature) for a, b in zip(said, told, strict=True)), torch.zeros(()))
        return total / max(1, int(chosen.sum()))


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
