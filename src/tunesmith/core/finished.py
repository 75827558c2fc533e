"""A finished model as suites see it, and what a model answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.core.column import Row
from tunesmith.core.rows import Rows

if TYPE_CHECKING:
    import numpy as np

    from tunesmith.core.part import Task


@dataclass(frozen=True)
class Predictions:
    """What a model answered: `answers` [rows, …], `confidences` [rows], `loss` a target (NaN without targets), and of
    how many rows something was `cut`.
    """

    answers: np.ndarray
    confidences: np.ndarray
    loss: float
    cut: int = 0


@dataclass(frozen=True)
class Finished:
    """A finished model as a suite sees it.

    predict, untrained: answers of the model, and of the same model before training, on a split by its name.
    lines: lines of the predictions file of a split, by their places.
    """

    task: Task
    splits: Mapping[str, Rows]
    predict: Callable[[str], Predictions]
    untrained: Callable[[str], Predictions]
    lines: Callable[[str, Sequence[int]], list[Row]]
    seed: int
