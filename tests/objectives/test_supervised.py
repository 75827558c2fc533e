"""The supervised objective: the task's summed loss over the targets of the whole update."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tunesmith.core import registry
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Task
from tunesmith.objectives.supervised import Supervised
from tunesmith.recipe import from_values


def test_micro_batches_of_unequal_size_are_not_averaged() -> None:
    # Four targets with losses 1, 2, 3 and one of 10: the mean is 4; the mean of the micro-batches' means would be 6.
    task = SimpleNamespace(loss=lambda step: torch.tensor(step.batch).sum())
    parts: list[Any] = [SimpleNamespace(task=task, batch=[1.0, 2.0, 3.0], targets=4.0)]
    parts.append(SimpleNamespace(task=task, batch=[10.0], targets=4.0))
    assert sum(Supervised().loss(step).item() for step in parts) == pytest.approx(4.0)


def test_a_task_without_targets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = registry.load("tasks", "classify")
    assert issubclass(task, Task)
    monkeypatch.setattr(task, "gives", frozenset({"prompts"}))
    with pytest.raises(RecipeError, match="'supervised' needs targets in a batch, which the task 'classify' does not"):
        from_values({"data": "rows.csv", "task": "classify"})
