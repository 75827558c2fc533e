"""What a sequence of tasks did to each of them, from the matrix of their metrics.

R[i][j] is the metric of task j after the training on task i, of T tasks; NaN where it was not measured. Metrics are
such that higher is better. After Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", 2017, and
for `forgetting` Chaudhry et al., "Riemannian Walk for Incremental Learning", 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]
"""Row i has T columns, or i + 1."""


def average(matrix: Matrix) -> float:
    """The mean over all tasks after the last one: mean_j R[T-1][j]."""
    last = matrix[-1]
    return sum(last) / len(last)


def backward(matrix: Matrix) -> float:
    """Backward transfer: mean over j < T-1 of R[T-1][j] - R[j][j]; 0 for a single task. Below 0 where tasks were
    forgotten.
    """
    count = len(matrix) - 1
    return sum(matrix[-1][j] - matrix[j][j] for j in range(count)) / count if count else 0.0


def forgetting(matrix: Matrix) -> float:
    """Mean over j < T-1 of (max over l < T-1 of R[l][j]) - R[T-1][j], over rows that have it; 0 for a single task."""
    count = len(matrix) - 1
    if not count:
        return 0.0
    return sum(max(row[j] for row in matrix[j:-1]) - matrix[-1][j] for j in range(count)) / count
