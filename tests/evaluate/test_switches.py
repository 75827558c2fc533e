"""A block's part of a delta, switched off."""

from __future__ import annotations

import pytest
import torch

from tests import toy
from tests.evaluate import suites
from tunesmith.core import surgery
from tunesmith.core.rows import each
from tunesmith.evaluate import switches


def test_blocks_are_numbered_and_told_apart() -> None:
    def names(backbone: str) -> list[str]:
        return list(switches.names(toy.prepared({"model": backbone}).backbone.model).values())

    assert names("builtin:tiny-bert") == ["1", "2"]
    assert names("builtin:tiny-t5") == ["encoder 1", "encoder 2", "decoder 1", "decoder 2"]


def test_what_stands_in_no_block_is_a_group_of_its_own() -> None:
    assert list(switches.groups(toy.prepared({"method": "prompt"}).backbone.model)) == [switches.OUTSIDE]
    assert switches.groups(toy.prepared({}).backbone.model) == {}


@pytest.mark.parametrize("method", ["lora", "bottleneck", "ia3"])
def test_the_metric_is_the_one_without_that_block(method: str) -> None:
    toyed = toy.prepared({"task": "regress", "method": method}, count=12)
    model = toyed.backbone.model
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in surgery.trained(model).values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    asked, rows = suites.asked(toyed), toyed.batches.rows
    whole, without = switches.metrics_without(asked, rows)
    assert list(without) == ["1", "2"]
    task = toyed.recipe.task
    truths = task.truths(each(rows))
    assert whole == task.metrics(truths, asked.predict(rows).answers)[task.metric]
    for module in [one for path, one in surgery.inserted(model).items() if "layer.1" in path]:
        module.active = False
    # By hand the second block is off; nothing was left switched off before.
    assert without["2"] == task.metrics(truths, asked.predict(rows).answers)[task.metric] != whole


def test_switches_stand_as_before_after_a_failure() -> None:
    modules = list(surgery.inserted(toy.prepared({"method": "lora"}).backbone.model).values())
    modules[0].active = False
    with pytest.raises(ZeroDivisionError), switches.off(modules):
        raise ZeroDivisionError
    assert [module.active for module in modules] == [False, *[True] * (len(modules) - 1)]
