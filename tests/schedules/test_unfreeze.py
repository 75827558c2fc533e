"""Gradual unfreezing: closed blocks have no gradient, no state and no backward pass, and open from the top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith.core.errors import RecipeError
from tunesmith.core.places import places
from tunesmith.core.step import Training
from tunesmith.prepare import Prepared

EVERY_TWO = {"name": "unfreeze", "steps": 2}


def toyed(*, steps: int = 8, **settings: Any) -> Prepared:
    return toy.prepared({"schedules": [{**EVERY_TWO, **settings}, "constant"], "train": {"steps": steps}})


def watched(made: Prepared, folder: Path) -> list[tuple[set[int], set[int], set[int]]]:
    """After every update: places that train, have a gradient, have a state in the optimizer."""
    found = places(made.training.model)
    seen = []
    schedule = made.recipe.schedules[0]
    own = type(schedule).after_step

    def look(part: Any, training: Training) -> None:
        named = dict(training.model.named_parameters())
        seen.append(
            (
                {found.of[name] for name, parameter in named.items() if parameter.requires_grad},
                {found.of[name] for name, parameter in named.items() if parameter.grad is not None},
                {found.of[name] for name, parameter in named.items() if parameter in training.optimizer.state},
            )
        )
        own(part, training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(schedule), "after_step", look)
        assert toy.train(made, folder)
    return seen


def test_blocks_open_from_the_top_and_what_is_closed_costs_nothing(tmp_path: Path) -> None:
    seen = watched(toyed(), tmp_path)
    # Two blocks: the head (4) and the pooler (3), then block 2, block 1, and the embeddings.
    expected = [{3, 4}, {3, 4}, {2, 3, 4}, {2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}]
    assert seen == [(one, one, one) for one in expected]


def test_closed_weights_stay_bit_by_bit(tmp_path: Path) -> None:
    made = toyed(steps=2)
    before = toy.weights(made)
    toy.train(made, tmp_path)
    moved = {name for name, weight in toy.weights(made).items() if not torch.equal(before[name], weight)}
    assert moved and all(name.startswith(("classifier", "bert.pooler")) for name in moved)


def test_the_first_blocks_are_open_from_the_beginning(tmp_path: Path) -> None:
    assert watched(toyed(steps=3, first=1), tmp_path)[0][0] == {2, 3, 4}


def test_what_is_open_keeps_its_state(tmp_path: Path) -> None:
    made = toyed(steps=4)
    toy.train(made, tmp_path)
    optimizer, named = made.training.optimizer, dict(made.training.model.named_parameters())
    assert optimizer.state[named["classifier.weight"]]["step"] == 4
    assert optimizer.state[named["bert.encoder.layer.1.output.dense.weight"]]["step"] == 2


def test_epochs_count_updates() -> None:
    made = toy.prepared({"schedules": [{"name": "unfreeze", "epochs": 1.5}], "train": {"epochs": 6}}, count=16)
    schedule: Any = made.recipe.schedules[-1]
    assert made.training.updates_an_epoch == 4
    schedule.setup(made.training)
    assert [schedule._opens(made.training, place) for place in (2, 1, 0)] == [6, 12, 18]


def test_one_that_never_opens_is_said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level("INFO"):
        toy.train(toyed(steps=4), tmp_path)
    assert "unfreeze: 2 of 3 groups of weights never open: the training is too short." in caplog.text


def test_a_method_without_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match="unfreeze opens blocks, and the method trains none of them"):
        toy.prepared({"method": "head_only", "schedules": ["unfreeze"]})


def test_a_delta_opens_block_by_block(tmp_path: Path) -> None:
    made = toy.prepared({"method": "lora", "schedules": [EVERY_TWO], "train": {"steps": 5}})
    before = toy.weights(made)
    toy.train(made, tmp_path)
    moved = {name for name, weight in toy.weights(made).items() if not torch.equal(before[name], weight)}
    assert any("layer.0" in name for name in moved) and all("lora" in name or "classifier" in name for name in moved)
