"""Gradual freezing: the lower blocks stop training, and cost no backward pass any more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from tunesmith.core import groups, surgery
from tunesmith.core.part import Schedule
from tunesmith.core.places import check_trained, places
from tunesmith.core.step import Training
from tunesmith.schedules.freeze_rules import added, changes, settled, stops


class Freeze(Schedule):
    """Freeze embeddings and blocks from the bottom to the top while training; head and top block train to the end.

    Formula: by `timetable` place l stops after share t_l of the updates, t_l = first + (1 - first) l / n or its cube;
    with `anneal` its rate is multiplied by (1 + cos(pi t / t_l)) / 2 until then. By `gradients` the sums G_l of a
    place's gradients over an interval are compared with those of the interval before: e_l = | |G'_l| - |G_l| | /
    |G'_l|; all places below the first with e_l >= the percentile of the e that still train stop.
    Symbols: l = 0 the embeddings, 1 … n the blocks; |G| the sum of absolute values. Shapes: whole parameters.
    Paper: timetable, Brock et al., "FreezeOut: Accelerate Training by Progressively Freezing Layers", 2017, whose rates
    are annealed by place alone (here times the recipe's schedule; `constant` gives theirs) and whose larger rates of
    early layers are left out. gradients, Liu et al., "AutoFreeze: Automatically Freezing Model Blocks to Accelerate
    Fine-tuning", 2021, with the absolute value and the norm of the authors' code.
    """

    sets: ClassVar[str] = "what trains"

    rule: Literal["timetable", "gradients"] = "timetable"
    """What tells when a place stops."""
    first: float = Field(0.8, gt=0, le=1)
    """By timetable: share of the updates after which the embeddings stop, before it is cubed."""
    cubed: bool = True
    """By timetable: whether the shares are cubed, so that the lower blocks stop earlier."""
    anneal: bool = False
    """By timetable: whether the rate of a place falls to zero until it stops."""
    intervals: int = Field(20, ge=2)
    """By gradients: into how many intervals the training is divided."""
    percentile: float = Field(50.0, ge=0, le=100)
    """By gradients: which percentile of the changes of those that train is the threshold."""

    _names: list[list[str]] = PrivateAttr(default_factory=list)
    _frozen: int = PrivateAttr(default=0)
    _sums: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _before: list[float] = PrivateAttr(default_factory=list)
    _training: Training | None = PrivateAttr(default=None)

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Look at the model, and change nothing: one of which nothing but the head trains raises RecipeError."""
        check_trained(model, "freeze", "closes")

    def setup(self, training: Training) -> None:
        """Know what stands where; with `anneal`, let every place have a rate of its own."""
        self._training = training
        found, trained = places(training.model), surgery.trained(training.model)
        self._names = [[name for name in found.names([place]) if name in trained] for place in range(found.above)]
        self._frozen, self._sums, self._before = 0, {}, []
        if self.rule == "timetable" and self.anneal:
            groups.split(training.optimizer, lambda name: min(found.of[name], found.above))
            self._anneal(training)

    def after_step(self, training: Training) -> None:
        """Freeze what stops now."""
        if self.rule == "timetable":
            progress = training.step / training.total_steps
            self._freeze(training, sum(stop <= progress for stop in self._stops()[:-1]))
            if self.anneal:
                self._anneal(training)
            return
        named = dict(training.model.named_parameters())
        for name in (name for names in self._names[self._frozen :] for name in names):
            gradient = training.gradient(named[name])
            if gradient is not None:
                self._sums[name] = added(self._sums.get(name), gradient)
        if training.step % max(1, training.total_steps // self.intervals) == 0:
            self._close(training)

    def state(self) -> dict[str, Any]:
        """How much is frozen, and what is known of the gradients of the rest."""
        return {"frozen": self._frozen, "before": list(self._before), **self._sums}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Freeze again what was frozen, and take back what was known."""
        assert self._training is not None
        self._freeze(self._training, int(state["frozen"]))
        self._before = list(state["before"])
        device = next(self._training.model.parameters()).device
        self._sums = {name: value.to(device) for name, value in state.items() if isinstance(value, Tensor)}

    def _stops(self) -> list[float]:
        return stops(len(self._names), self.first, self.cubed)

    def _close(self, training: Training) -> None:
        """The end of an interval: compare it with the one before."""
        sizes = [
            sum(self._sums[name].abs().sum().item() for name in names if name in self._sums) for names in self._names
        ]
        if self._before:
            change = changes(self._before[self._frozen :], sizes[self._frozen :])
            # The top block trains to the end.
            self._freeze(training, min(self._frozen + settled(change, self.percentile), len(self._names) - 1))
        self._before, self._sums = sizes, {}

    def _freeze(self, training: Training, count: int) -> None:
        """Let the lowest `count` places be frozen."""
        names = [name for place in self._names[self._frozen : count] for name in place]
        if names:
            training.freeze(names)
        for name in names:
            self._sums.pop(name, None)
        self._frozen = max(self._frozen, count)

    def _anneal(self, training: Training) -> None:
        """The share of the rate of every place at the next update."""
        progress = training.step / training.total_steps
        factors = [0.5 * (1 + math.cos(math.pi * min(1.0, progress / stop))) for stop in self._stops()]
        every = {name: factor for names, factor in zip(self._names, factors, strict=True) for name in names}
        groups.share(training.optimizer, self.word(), every)
