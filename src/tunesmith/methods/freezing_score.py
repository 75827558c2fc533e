"""Which matrices a training may stop training: scores from their gradients, and a ratio that falls. Used by aflora."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Score(NamedTuple):
    """What is known of one matrix, element by element: a moving mean of |g|, and one of how far |g| is from it."""

    sensitivity: Tensor
    uncertainty: Tensor

    def after(self, size: Tensor, beta1: float, beta2: float) -> Score:
        """Take in the mean |g| of one window, `size`: I' = b1 I' + (1 - b1) size, then U' = b2 U' + (1 - b2) |size -
        I'|, with the new I'.
        """
        sensitivity = beta1 * self.sensitivity + (1 - beta1) * size
        return Score(sensitivity, beta2 * self.uncertainty + (1 - beta2) * (size - sensitivity).abs())

    def value(self) -> Tensor:
        """The score of every element: I' U'."""
        return self.sensitivity * self.uncertainty


def keep_ratio(step: float, start: float, end: float) -> float:
    """The share that may go on training: 1 up to `start`, 0 from `end` on, between them (1 - progress)^3."""
    if step <= start:
        return 1.0
    return 0.0 if step >= end else (1 - (step - start) / (end - start)) ** 3


def who_freezes(scores: Mapping[str, Tensor], ratio: float) -> list[str]:
    """The matrices whose mean score is below the (1 - ratio) quantile of all elements: none at 1, all at 0."""
    if ratio <= 0 or ratio >= 1 or not scores:
        return list(scores) if ratio <= 0 else []
    threshold = quantile(torch.cat([score.reshape(-1) for score in scores.values()]), 1 - ratio)
    return [name for name, score in scores.items() if score.mean() < threshold]


def quantile(values: Tensor, share: float) -> Tensor:
    """The quantile of a vector, linear between its elements; `torch.quantile` takes no more than 16 million."""
    place = share * (values.numel() - 1)
    below = math.floor(place)
    ordered = values.sort().values
    return torch.lerp(ordered[below], ordered[math.ceil(place)], place - below)


class Scores:
    """The scores of all matrices that still train, and the window of updates that is being gathered for them."""

    def __init__(self, matrices: Mapping[str, Tensor], beta1: float, beta2: float) -> None:
        self._betas = (beta1, beta2)
        self._updates = 0
        self._sums = {name: torch.zeros_like(matrix) for name, matrix in matrices.items()}
        self._scores = {name: Score(torch.zeros_like(m), torch.zeros_like(m)) for name, m in matrices.items()}

    @property
    def names(self) -> list[str]:
        """The matrices that still train."""
        return list(self._scores)

    def gather(self, gradients: Mapping[str, Tensor | None]) -> None:
        """Add the gradients of one update to the window; None counts as zero."""
        self._updates += 1
        for name, gradient in gradients.items():
            if gradient is not None:
                self._sums[name] += gradient.abs()

    def close(self) -> dict[str, Tensor]:
        """End the window, take it into the scores, and give them."""
        for name, total in self._sums.items():
            self._scores[name] = self._scores[name].after(total / max(self._updates, 1), *self._betas)
            total.zero_()
        self._updates = 0
        return {name: score.value() for name, score in self._scores.items()}

    def drop(self, name: str) -> None:
        """Forget a matrix, which trains no more."""
        del self._sums[name], self._scores[name]

    def state(self) -> dict[str, Any]:
        """Everything, as tensors by name and one number."""
        sums = {f"window.{name}": total.clone() for name, total in self._sums.items()}
        means = {f"sensitivity.{name}": score.sensitivity for name, score in self._scores.items()}
        doubts = {f"uncertainty.{name}": score.uncertainty for name, score in self._scores.items()}
        return {"updates": self._updates, **sums, **means, **doubts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave, of the matrices that are still here."""
        self._updates = int(state["updates"])
        for name, total in self._sums.items():
            total.copy_(state[f"window.{name}"])
            stored = (state[f"{kind}.{name}"].to(total.device, total.dtype) for kind in ("sensitivity", "uncertainty"))
            self._scores[name] = Score(*stored)
