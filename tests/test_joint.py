"""The key `tasks` of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith import stages
from tunesmith.core.errors import RecipeError
from tunesmith.joint import Joint

TASKS = {
    "kind": {"task": {"name": "classify", "text": "text", "label": "label"}, "data": "a.csv"},
    "size": {"task": {"name": "regress", "text": "text", "score": "number"}, "data": {"train": "b.csv"}},
}


def read(**values: Any) -> Joint:
    found = stages.read({"model": "builtin:tiny-bert", "tasks": TASKS, **values})
    assert isinstance(found, Joint)
    return found


def test_tasks_have_their_own_data_and_share_the_rest() -> None:
    found = read(method="lora", train={"epochs": 2})
    assert list(found.tasks) == ["kind", "size"]
    kind, size = found.tasks.values()
    assert (kind.task.word(), size.task.word(), size.data.train) == ("classify", "regress", "b.csv")
    assert kind.method is size.method and kind.objective is size.objective
    assert kind.objective.word() == "multi_task" and kind.train == size.train
    assert stages.read(found.values()) == found


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"tasks": {"kind": TASKS["kind"]}}, "two or more names"),
        ({"tasks": [TASKS["kind"]]}, "two or more names"),
        ({"tasks": {**TASKS, "a/b": TASKS["kind"]}}, "'a/b' is no name for a folder"),
        ({"tasks": {**TASKS, "model": TASKS["kind"]}}, "'model' is the name of a folder"),
        ({"task": "classify"}, "task: is given beside tasks"),
        ({"tasks": {**TASKS, "kind": {**TASKS["kind"], "method": "lora"}}}, "tasks.kind.method: is unknown"),
        ({"stages": [{}, {}]}, "a stage has one task"),
        ({"objective": "supervised"}, "several tasks train by 'multi_task'"),
        ({"model": {"family": "bert"}}, "made from nothing"),
        ({"train": {"epochs": -1}}, r"(?s)Task 'kind': .*train.epochs"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read(**values)


def test_faults_of_all_tasks_come_together() -> None:
    wrong = {name: {**one, "task": {**one["task"], "nonsense": 1}} for name, one in TASKS.items()}  # type: ignore[dict-item]
    with pytest.raises(RecipeError, match=r"(?s)Task 'kind'.*Task 'size'"):
        read(tasks=wrong)
