"""After the training: weights between those of the start and the end, or the mean of those on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PrivateAttr
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.core import soup, surgery
from tunesmith.core.notes import note
from tunesmith.core.panel import Lines, Panel, Table
from tunesmith.core.part import Schedule
from tunesmith.core.step import Training
from tunesmith.schedules.average_weights import mean, mixed

FOLDER = "averaged"


class Average(Schedule):
    """End with averaged weights, chosen on the validation split, and show the whole curve.

    Formula: `start`: w = (1 - a) w0 + a w1, with the a of `points` even steps from 0 to 1 whose metric is best.
    `uniform`: the mean of the weights at every evaluation; `greedy`: these in the order of their metric, each taken in
    if the mean's metric does not fall.
    Symbols: w0 the backbone's weights before step 0, w1 those of the end; a low-rank pair beside a weight has its
    product times a; a fresh head, and what else a method put in, has no start and stays as it is. Shapes: whole
    parameters.
    Paper: start, Wortsman et al., "Robust Fine-tuning of Zero-shot Models", 2022, with a head that is trained too;
    uniform and greedy, Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models Improves Accuracy
    without Increasing Inference Time", 2022, of one run's evaluations in the place of several runs. Of low-rank pairs a
    soup takes the mean of each matrix, which is not that of their products.
    """

    sets: ClassVar[str] = "the last weights"

    over: Literal["start", "uniform", "greedy"] = "start"
    """What the average goes over."""
    points: int = Field(11, ge=2)
    """Over start: how many averages are tried."""
    most: int = Field(8, ge=2)
    """Uniform and greedy: the last evaluations that count."""

    _kept: list[tuple[int, float]] = PrivateAttr(default_factory=list)
    _memory: dict[int, dict[str, Tensor]] = PrivateAttr(default_factory=dict)
    _folder: Path | None = PrivateAttr(default=None)

    def setup(self, training: Training) -> None:
        """Keep the start, or know where the weights of evaluations go."""
        if self.over == "start":
            _ = training.start
        self._kept, self._memory = [], {}
        folder = None if training.world is None else training.world.folder
        self._folder = None if folder is None else folder / FOLDER

    def after_eval(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Keep the weights of this moment."""
        if self.over == "start":
            return
        training.settle()
        weights = {name: parameter.detach().clone() for name, parameter in surgery.trained(training.model).items()}
        self._kept.append((training.step, _value(training, metrics)))
        if self._folder is None:
            self._memory[training.step] = weights
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({name: one.cpu().contiguous() for name, one in weights.items()}, self._file(training.step))
        for step, _ in self._kept[: -self.most]:
            self._memory.pop(step, None)
            if self._folder is not None:
                self._file(step).unlink(missing_ok=True)
        self._kept = self._kept[-self.most :]

    def end(self, training: Training, evaluate: Callable[[], Mapping[str, float]]) -> Sequence[Panel]:
        """Put the average in."""
        training.settle()
        if self.over == "start":
            return self._from_start(training, evaluate)
        shown = self._soup(training, evaluate) if self._kept else []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return shown

    def state(self) -> dict[str, Any]:
        """The evaluations whose weights are kept; where there is no folder for them, the weights too."""
        kept = {f"{step} {name}": one for step, weights in self._memory.items() for name, one in weights.items()}
        return {"kept": [list(pair) for pair in self._kept], **kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._kept = [(int(step), float(value)) for step, value in state["kept"]]
        for key, tensor in state.items():
            if isinstance(tensor, Tensor):
                step, _, name = key.partition(" ")
                self._memory.setdefault(int(step), {})[name] = tensor

    def _from_start(self, training: Training, evaluate: Callable[[], Mapping[str, float]]) -> Sequence[Panel]:
        pairs = [
            (weight, start.clone(), weight.detach().clone())
            for _, weight, start in training.start.pairs(training.model)
        ]
        lows = [
            low.b for wrapper in surgery.wrappers(training.model).values() if (low := wrapper.low_rank()) is not None
        ]
        ends = [(b, torch.zeros_like(b), b.detach().clone()) for b in lows if b.requires_grad]
        if not pairs and not ends:
            note("average: the method trains nothing that has a start; the weights stay as they are.")
            return ()
        shares = [point / (self.points - 1) for point in range(self.points)]
        values = []
        for share in shares:
            mixed([*pairs, *ends], share)
            values.append(_value(training, evaluate()))
        best = max(range(self.points), key=lambda point: (values[point], shares[point]))
        mixed([*pairs, *ends], shares[best])
        note(
            f"average: {shares[best]:.2f} of the way from the start is best on validation: {values[best]:.4f}, against "
            f"{values[-1]:.4f} at the end."
        )
        metric = training.task.metric
        return [Lines(f"{metric} between start and end", {metric: (shares, values)}, "share of the way", metric)]

    def _soup(self, training: Training, evaluate: Callable[[], Mapping[str, float]]) -> list[Panel]:
        weights = {step: self._memory.get(step) or load_file(self._file(step)) for step, _ in self._kept}

        def measured(steps: Sequence[int]) -> float:
            mean(surgery.trained(training.model), [weights[step] for step in steps])
            return _value(training, evaluate())

        steps = [step for step, _ in self._kept]
        if self.over == "uniform":
            taken, value = steps, measured(steps)
        else:
            tried = soup.greedy([step for step, _ in sorted(self._kept, key=lambda one: -one[1])], measured)
            taken, value = soup.taken(tried), max(one.value for one in tried if one.taken)
            mean(surgery.trained(training.model), [weights[step] for step in taken])
        best = max(single for _, single in self._kept)
        note(f"average: of weights after {len(taken)} of {len(steps)} evaluations: {value:.4f}; best alone {best:.4f}.")
        rows = [[step, single, "yes" if step in taken else "no"] for step, single in self._kept]
        metric = training.task.metric
        return [Table("What was averaged", ["step", f"{metric} alone", "taken"], [*rows, ["average", value, ""]])]

    def _file(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"step-{step:08d}.safetensors"


def _value(training: Training, metrics: Mapping[str, float]) -> float:
    """The task's metric, with its sign turned where less is better; the lowest of all where it is not defined."""
    value = metrics[training.task.metric] * (1 if training.task.higher_is_better else -1)
    return value if value == value else float("-inf")
