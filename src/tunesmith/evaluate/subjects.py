"""Who answers the rows that are measured: the model, and what it has to beat."""

from __future__ import annotations

import numpy as np

from tunesmith.core.part import Task


def answers_of(
    task: Task, truths: np.ndarray, given: np.ndarray, untrained: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Answers to rows by who gives them: the model (`given`), the best constant answer in the form of the truths
    [rows, …], where there is one, and the model before training, where it is known.
    """
    found = {"model": given}
    if (known := task.constant()) is not None:
        name, constant = known
        found[name] = np.broadcast_to(constant, truths.shape)
    return found if untrained is None else {**found, task.untrained: untrained}
