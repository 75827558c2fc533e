"""RecAdam: from recalling the start to learning the task, by a weight that changes with the steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field, PrivateAttr

from tunesmith.core import groups
from tunesmith.core.notes import note
from tunesmith.core.part import Part
from tunesmith.core.start import Start
from tunesmith.core.step import Training

LEAST = 1e-12
"""The least share of the task: the plain rate is told from the scaled one by it."""


def share(step: float, middle: float, slope: float) -> float:
    """The task's share at a step: 1 / (1 + exp(-slope (step - middle))); one half in the middle, and never quite 0."""
    return max(0.5 * (1 + math.tanh(0.5 * slope * (step - middle))), LEAST)


class Recadam(Part):
    """Pull the backbone's weights to their start at first, and let the task move them more and more.

    Formula: w <- w - lr a(t) u, then w <- w - lr (1 - a(t)) strength (w - w0); a(t) = 1 / (1 + exp(-slope (t - m))).
    Symbols: u AdamW's step, which sees the task's gradient alone; lr the rate at update t; m = middle * T, T all
    updates; w0 the weights before step 0. Shapes: w, w0 and u have one shape. The head has no start: a(t) = 1 for it.
    Paper: Chen et al., "Recall and Learn: Fine-tuning Deep Pretrained Language Models with Less Forgetting", 2020. The
    pull is outside of Adam and by the plain rate, as in the authors' code; `middle` is a share of the training, where
    they name a step.
    """

    strength: float = Field(5000.0, ge=0)
    """Pull towards the start, gamma in the paper. Together with the rate it goes at most the whole way."""
    slope: float = Field(0.1, gt=0)
    """How quickly the task takes over, k in the paper."""
    middle: float = Field(0.25, ge=0, le=1)
    """Share of the updates after which task and start weigh the same, t0 in the paper."""

    _start: Start | None = PrivateAttr(default=None)

    def setup(self, training: Training) -> None:
        """Keep the start, and let its weights have a rate of their own."""
        if not self.strength:
            return
        self._start = start = training.start
        peak = max((group["peak"] for group in training.optimizer.param_groups), default=0.0)
        if start.weights and peak * self.strength > 1:
            note(
                f"recadam: strength {self.strength:g} times the rate {peak:g} is above 1: while the start weighs most, "
                "weights are put back on it in every update."
            )
        groups.split(training.optimizer, lambda name: name in start.weights)
        self._share(training)

    @torch.no_grad()
    def after_step(self, training: Training) -> None:
        """Pull with the rate of this update, and set the task's share of the next one."""
        if not self.strength:
            return
        assert self._start is not None
        pulls = {name: self._pull(group) for group in training.optimizer.param_groups for name in group["names"]}
        for name, weight, start in self._start.pairs(training.model):
            if pulls.get(name, 0.0):
                weight.lerp_(start.to(weight.dtype), pulls[name])
        self._share(training)

    def _pull(self, group: dict[str, Any]) -> float:
        """The part of the way to their start that a group's weights go."""
        mine = group["shares"][self.word()]
        return float(min(group["lr"] / mine * (1 - mine) * self.strength, 1.0))

    def _share(self, training: Training) -> None:
        assert self._start is not None
        now = share(training.step, self.middle * training.total_steps, self.slope)
        groups.share(training.optimizer, self.word(), dict.fromkeys(self._start.weights, now))
