"""Gradual freezing: what is frozen has no gradient and no state, by timetable and by gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith.core.errors import RecipeError
from tunesmith.core.places import places
from tunesmith.prepare import Prepared


def toyed(*, steps: int = 8, **settings: Any) -> Prepared:
    return toy.prepared({"schedules": [{"name": "freeze", **settings}, "constant"], "train": {"steps": steps}})


def test_the_timetable_freezes_from_the_bottom(tmp_path: Path) -> None:
    made = toyed(first=0.25, cubed=False)
    found, model = places(made.training.model), made.training.model
    before = toy.weights(made)
    assert toy.train(made, tmp_path)
    named = dict(model.named_parameters())
    frozen = {found.of[name] for name, parameter in named.items() if not parameter.requires_grad}
    # Of 8 updates the embeddings stop after 2, block 1 after 5, and the top block trains to the end.
    assert frozen == {0, 1}
    assert not any(
        parameter in made.training.optimizer.state for name, parameter in named.items() if found.of[name] < 2
    )
    assert not any(
        name.startswith("bert.embeddings") for group in made.training.optimizer.param_groups for name in group["names"]
    )
    assert not torch.equal(
        before["bert.embeddings.LayerNorm.weight"], toy.weights(made)["bert.embeddings.LayerNorm.weight"]
    )


def test_frozen_weights_stay_bit_by_bit(tmp_path: Path) -> None:
    after = []
    for steps in (2, 3):
        made = toyed(steps=8, first=0.25, cubed=False)
        asked = iter([False] * (steps - 1) + [True])
        toy.train(made, tmp_path / str(steps), interrupted=lambda asked=asked: next(asked))  # type: ignore[misc]
        after.append(toy.weights(made))
    same = {name for name, weight in after[0].items() if torch.equal(weight, after[1][name])}
    assert {name for name in same if "embeddings" in name} == {name for name in after[0] if "embeddings" in name}
    assert "classifier.weight" not in same


def test_rates_are_annealed_by_place() -> None:
    made = toyed(first=0.5, cubed=False, anneal=True)
    freeze: Any = made.recipe.schedules[0]
    training = made.training
    for part in made.recipe.schedules:
        part.setup(training)
    training.step = 2
    for part in made.recipe.schedules:
        part.after_step(training)
    rate, found = made.recipe.method.learning_rate, places(training.model)
    rates = {found.of[name]: group["lr"] for group in training.optimizer.param_groups for name in group["names"]}
    for place, stop in ((0, 0.5), (1, 0.75), (2, 1.0)):
        assert rates[place] == pytest.approx(rate * 0.5 * (1 + math.cos(math.pi * 0.25 / stop)))
    assert rates[3] == rates[4] == pytest.approx(rate)
    assert freeze.state()["frozen"] == 0


def test_gradients_that_settle_freeze(tmp_path: Path) -> None:
    made = toyed(steps=8, rule="gradients", intervals=4, percentile=100)
    assert toy.train(made, tmp_path)
    freeze: Any = made.recipe.schedules[0]
    # At the 100th percentile all below the place that changed most freeze, never the top block.
    trains = {places(made.training.model).of[name] for name in made.training.trained}
    assert trains == {0, 1, 2, 3, 4}
    found, named = places(made.training.model).of, dict(made.training.model.named_parameters())
    assert {found[name] for name, one in named.items() if not one.requires_grad} == set(range(freeze.state()["frozen"]))
    assert all(
        parameter.requires_grad for name, parameter in made.training.model.named_parameters() if "layer.1" in name
    )


def test_a_method_without_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match="freeze closes blocks, and the method trains none of them"):
        toy.prepared({"method": "head_only", "schedules": ["freeze"]})
