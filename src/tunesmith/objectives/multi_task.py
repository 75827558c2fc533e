"""Several tasks at once: how often each has its turn, what its loss weighs, and whether their gradients agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from tunesmith.core.errors import RecipeError, nearest
from tunesmith.core.panel import Cell, Panel, Table
from tunesmith.core.part import Objective
from tunesmith.core.places import places
from tunesmith.core.step import Step, Training

SAMPLED = 1 << 16
"""How many of the shared weights the cosine of two gradients is taken over."""
ANNEALED = 0.8
"""How much of the exponent is gone in the last epoch of annealed sampling (Stickland and Murray, section 4)."""


VARIANCES, RATE = "objective.variances", 100.0
"""The name of the learned variances, and how many times the weights' rate theirs is: they start from nothing, and rates
that suit trained weights would hardly move them.
"""


def sampling_shares(rows: Sequence[int], exponent: float) -> list[float]:
    """p_i = n_i^a / sum_j n_j^a, with n the rows of each task and a the exponent: 1 is proportional, 0 uniform."""
    powers = [one**exponent for one in rows]
    return [one / sum(powers) for one in powers]


def cosine(a: Tensor, b: Tensor) -> float:
    """a b / (|a| |b|) of two vectors; 0 where one is zero."""
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else 0.0


class MultiTask(Objective):
    """Minimise the losses of several tasks in turn, each update one task's, over one body with a head a task.

    Formula: the loss of an update of task i is w_i L_i, or with `uncertainty` w_i (exp(-s_i) L_i + s_i / 2). Task i
    has a part p_i = n_i^a / sum_j n_j^a of the updates, with a = 1 (proportional), 0 (uniform), 1 / temperature, or
    annealed 1 - 0.8 (e - 1) / (E - 1) in epoch e of E.
    Symbols: L_i the mean loss a target, n_i training rows, w_i `weights`, s_i the logarithm of the variance of task i's
    noise, which is learned from 0. Gradients conflict where the cosine of two tasks' is below 0; it is taken over
    65,536 of the weights in the blocks, each update's gradient with the last of every other task. Shapes: a scalar a
    micro-batch.
    Paper: annealed, Stickland and Murray, "BERT and PALs", 2019; temperature, Raffel et al., "T5", 2020, without their
    limit on n; uncertainty, Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", 2018, with
    one form for all losses; conflict, Yu et al., "Gradient Surgery for Multi-Task Learning", 2020, measured and left.
    With one task all of it is `supervised`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"targets"})

    sampling: Literal["proportional", "uniform", "temperature", "annealed"] = "proportional"
    """How often each task has its turn: as its rows, all alike, or in between."""
    temperature: float = Field(2.0, ge=1)
    """Of sampling by temperature: 1 is proportional, and the higher, the more alike."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weight of a task's loss, by its name; 1 for those that are not named."""
    uncertainty: bool = False
    """Whether each loss is weighed by a learned variance too."""

    _names: list[str] = PrivateAttr(default_factory=list)
    _variances: nn.Parameter | None = PrivateAttr(default=None)
    _watched: list[tuple[nn.Parameter, Tensor]] = PrivateAttr(default_factory=list)
    _of: int = PrivateAttr(default=0)
    _updates: list[int] = PrivateAttr(default_factory=list)
    _last: dict[int, Tensor] = PrivateAttr(default_factory=dict)
    _found: dict[tuple[int, int], list[float]] = PrivateAttr(default_factory=dict)

    def meet(self, tasks: Mapping[str, int]) -> None:
        """Learn the tasks' names; a weight of none of them, or one that is not above 0, raises RecipeError."""
        for name, weight in self.weights.items():
            if name not in tasks:
                raise RecipeError(f"objective.weights: no task is called '{name}'. {nearest(name, tasks)}")
            if not weight > 0:
                raise RecipeError(
                    f"objective.weights: the weight of '{name}' is {weight}; it must be more than 0.",
                    hint="Leave the task out of `tasks` if it is not to train.",
                )
        self._names = list(tasks)
        self._updates = [0] * len(tasks)
        if self.uncertainty:
            self._variances = nn.Parameter(torch.zeros(len(tasks)))

    def shares(self, rows: Sequence[int], progress: float) -> list[float]:
        """Each task's part of an epoch's updates."""
        exponents = {
            "proportional": 1.0,
            "uniform": 0.0,
            "temperature": 1 / self.temperature,
            "annealed": 1 - ANNEALED * progress,
        }
        return sampling_shares(rows, exponents[self.sampling])

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The logarithms of the tasks' variances, where they are learned: [tasks]."""
        return () if self._variances is None else [(VARIANCES, self._variances)]

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """A higher rate for the variances."""
        return {} if self._variances is None else {VARIANCES: RATE}

    def setup(self, training: Training) -> None:
        """Choose the weights over which gradients are compared: the same share of every trained one in the blocks."""
        if len(self._names) < 2:
            return
        there = places(training.model)
        named = dict(training.model.named_parameters())
        inside = [named[name] for name, place in there.of.items() if 0 < place <= there.blocks]
        inside = [weight for weight in inside if weight.requires_grad]
        every = sum(weight.numel() for weight in inside)
        draw = training.generator_of(self)
        for weight in inside:
            count = math.ceil(weight.numel() * min(1.0, SAMPLED / every))
            chosen = torch.randint(weight.numel(), (count,), generator=draw)
            self._watched.append((weight, chosen.to(weight.device)))

    def loss(self, step: Step) -> Tensor:
        """This micro-batch's part of its task's mean loss, weighed."""
        of = self._of = step.batch.of
        weight = self.weights.get(self._names[of], 1.0) if self._names else 1.0
        loss = step.task.loss(step) / step.targets
        if self._variances is None:
            return weight * loss
        variance = self._variances[of].to(loss.device)
        return weight * (torch.exp(-variance) * loss + step.share * variance / 2)

    def after_step(self, training: Training) -> None:
        """Compare the gradient of this update's task with the last ones of the others."""
        if len(self._names) < 2:
            return
        self._updates[self._of] += 1
        pieces = [weight.grad.flatten()[chosen] for weight, chosen in self._watched if weight.grad is not None]
        if not pieces:
            return
        gradient = torch.cat(pieces).float().cpu()
        for other, last in self._last.items():
            if other != self._of and len(last) == len(gradient):
                pair = (min(self._of, other), max(self._of, other))
                self._found.setdefault(pair, []).append(cosine(gradient, last))
        self._last[self._of] = gradient

    def end(self, training: Training, evaluate: Callable[[], Mapping[str, float]]) -> Sequence[Panel]:
        """The updates of each task, its weight, and how its gradients agree with the others'."""
        if len(self._names) < 2:
            return ()
        return [self._turns(), *([self._conflicts()] if self._found else [])]

    def state(self) -> dict[str, Any]:
        """Updates so far, cosines so far, and the last gradients."""
        found = {f"{a} {b}": values for (a, b), values in self._found.items()}
        return {"updates": self._updates, "found": found, **{f"last {of}": one for of, one in self._last.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._updates = list(state["updates"])
        self._found = {(int(key.split()[0]), int(key.split()[1])): list(v) for key, v in state["found"].items()}
        self._last = {int(key.split()[1]): one for key, one in state.items() if key.startswith("last ")}

    def _turns(self) -> Table:
        rows: list[list[Cell]] = []
        for of, name in enumerate(self._names):
            row: list[Cell] = [name, self._updates[of], self._updates[of] / max(1, sum(self._updates))]
            row.append(self.weights.get(name, 1.0))
            if self._variances is not None:
                row.append(math.exp(-float(self._variances[of].detach())))
            rows.append(row)
        learned = ["learned weight"] if self._variances is not None else []
        return Table("Turns of the tasks", ["task", "updates", "share", "weight", *learned], rows)

    def _conflicts(self) -> Table:
        rows: list[list[Cell]] = []
        for a, b in itertools.combinations(range(len(self._names)), 2):
            values = self._found.get((a, b), [])
            if values:
                below = sum(value < 0 for value in values) / len(values)
                rows.append([self._names[a], self._names[b], sum(values) / len(values), below, len(values)])
        told = "The cosine of two tasks' gradients in the shared blocks: below 0 an update of one undoes the other's."
        return Table("Do the gradients agree?", ["task", "and", "mean cosine", "share below 0", "compared"], rows, told)
