"""What a sequence of tasks did to each of them, from the matrix of their metrics.

R[i][j] is the metric of task j after the training on task i, of T tasks; NaN where it was not measured: means are over
the tasks that were, NaN where none was. Metrics are such that higher is better. After Lopez-Paz and Ranzato, "Gradient
Episodic Memory for Continual Learning", 2017, and for `forgetting` and `intransigence` Chaudhry et al., "Riemannian
Walk for Incremental Learning", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Matrix = Sequence[Sequence[float]]
"""Row i has T columns, or i + 1."""


def average(matrix: Matrix) -> float:
    """The mean over all tasks after the last one: mean_j R[T-1][j]."""
    return _mean(matrix[-1])


def backward(matrix: Matrix) -> float:
    """Backward transfer: mean over j < T-1 of R[T-1][j] - R[j][j]; 0 for a single task. Below 0 where tasks were
    forgotten.
    """
    count = len(matrix) - 1
    return _mean(matrix[-1][j] - matrix[j][j] for j in range(count)) if count else 0.0


def forgetting(matrix: Matrix) -> float:
    """Mean over j < T-1 of (max over l < T-1 of R[l][j]) - R[T-1][j], over rows that have it; 0 for a single task."""
    count = len(matrix) - 1
    if not count:
        return 0.0
    return _mean(_highest(row[j] for row in matrix[j:-1]) - matrix[-1][j] for j in range(count))


def forward(before: Sequence[float], untrained: Sequence[float]) -> float:
    """Forward transfer: mean over tasks i > 0 of R[i-1][i] - b_i. Above 0 where the tasks before one helped with it
    before it was trained.

    before: R[i-1][i], of each later task. untrained: b_i, of the same tasks, of the model before all of them.
    """
    return _mean(one - other for one, other in zip(before, untrained, strict=True))


def intransigence(own: Sequence[float], alone: Sequence[float]) -> float:
    """Intransigence: mean over tasks i > 0 of a_i - R[i][i]. Below 0 where the tasks before one helped to learn it,
    above 0 where they were in its way.

    own: R[i][i], of each later task. alone: a_i, of the same tasks, of a model trained on the one task alone. In the
    paper the model that one compares with is trained on task i and all before it at once.
    """
    return _mean(one - other for one, other in zip(alone, own, strict=True))


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _highest(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)
