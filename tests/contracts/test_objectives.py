"""What every objective keeps."""

from pathlib import Path
from typing import cast

import pytest

from tests import toy
from tunesmith.core import registry
from tunesmith.core.part import Objective
from tunesmith.train.log import lines

OBJECTIVES = registry.names("objectives")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_some_task_gives_what_it_needs(objective: str) -> None:
    needs = cast(Objective, registry.build("objectives", objective)).needs
    assert any(needs <= registry.load("tasks", task).gives for task in registry.names("tasks"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_its_loss_is_logged_by_name(objective: str, tmp_path: Path) -> None:
    toyed = toy.prepared({"objective": objective, "train": {"steps": 1}})
    toy.train(toyed, tmp_path)
    steps = [line for line in lines(tmp_path / "metrics.jsonl") if line["event"] == "step"]
    assert objective in steps[0]["losses"]
