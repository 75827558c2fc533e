"""Discriminative rates: each parameter in one group, and the rates follow the factor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import toy
from tunesmith.core.errors import RecipeError
from tunesmith.core.places import places

MODELS = ["builtin:tiny-bert", "builtin:tiny-llama", "builtin:tiny-t5", "builtin:minilm"]


@pytest.mark.parametrize("model", MODELS)
def test_the_rates_of_neighbours_differ_by_the_factor(model: str) -> None:
    toyed = toy.prepared(
        {
            "model": model,
            "schedules": [{"name": "layerwise", "factor": 0.5, "head": 2.0}],
            "train": {"learning_rate": 0.1, "steps": 2},
        }
    )
    groups = toyed.training.optimizer.param_groups
    named = [name for group in groups for name in group["names"]]
    assert sorted(named) == sorted(name for name, _ in toyed.training.model.named_parameters())
    found = places(toyed.training.model)
    for group in groups:
        for name in group["names"]:
            expected = 2.0 if found.of[name] == found.head else 0.5 ** (found.blocks + 1 - found.of[name])
            assert group["peak"] == pytest.approx(0.1 * expected)


def test_a_delta_in_a_block_has_the_blocks_rate() -> None:
    toyed = toy.prepared({"method": "lora", "schedules": [{"name": "layerwise", "factor": 0.5}]})
    rate = toyed.recipe.method.learning_rate
    peaks = {name: group["peak"] for group in toyed.training.optimizer.param_groups for name in group["names"]}
    lower = [peak for name, peak in peaks.items() if "layer.0" in name]
    assert lower and lower == pytest.approx([rate / 4] * len(lower))
    assert peaks["classifier.weight"] == pytest.approx(rate)


def test_factors_of_two_parts_multiply() -> None:
    toyed = toy.prepared({"method": "aflora", "schedules": [{"name": "layerwise", "head": 0.5}]})
    peaks = {name: group["peak"] for group in toyed.training.optimizer.param_groups for name in group["names"]}
    assert peaks["classifier.weight"] == pytest.approx(toyed.recipe.method.learning_rate * 0.4 * 0.5)


def test_a_factor_of_1_changes_nothing(tmp_path: Path) -> None:
    found = []
    for schedules in ([], [{"name": "layerwise", "factor": 1.0}]):
        toyed = toy.prepared({"schedules": schedules, "train": {"steps": 3}})
        assert toy.train(toyed, tmp_path / str(len(schedules)))
        found.append(toy.weights(toyed))
    assert all(found[0][name].equal(weight) for name, weight in found[1].items())


def test_two_that_set_the_same_are_refused() -> None:
    with pytest.raises(RecipeError, match="layerwise and layerwise both set the rates of layers: keep one"):
        toy.prepared({"schedules": ["layerwise", "layerwise"]})
    with pytest.raises(RecipeError, match="unfreeze and freeze both set what trains: keep one"):
        toy.prepared({"schedules": ["unfreeze", "freeze"]})
