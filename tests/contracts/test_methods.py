"""What every method keeps, on an encoder, two decoders and an encoder-decoder."""

from pathlib import Path

import pytest
import torch

from tests import toy
from tunesmith.core import anatomy, registry, surgery
from tunesmith.core.part import Method
from tunesmith.models import artifact
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.serve.session import probe_batches

METHODS = registry.names("methods")
CASES = [(method, backbone) for method in METHODS for backbone in toy.BACKBONES]
SAME = 1e-6


def built(method: str, backbone: str) -> Prepared:
    return toy.prepared(
        {"method": method, "model": backbone, "train": {"steps": 3, "learning_rate": 0.01, "weight_decay": 0.1}}
    )


def outputs(toyed: Prepared) -> list[torch.Tensor]:
    rows = [{"text": "amber basil cedar"}, {"text": "delta"}]
    return artifact.outputs(toyed.backbone.model, probe_batches(toyed.recipe, toyed.backbone, rows))


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_outputs_at_step_0_are_the_backbones(method: str, backbone: str) -> None:
    changed = built(method, backbone)
    plain = load_backbone(changed.recipe)
    rows = [{"text": "amber basil cedar"}, {"text": "delta"}]
    expected = artifact.outputs(plain.model, probe_batches(changed.recipe, plain, rows))
    assert artifact.largest_difference(expected, outputs(changed)) <= SAME


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_frozen_stays_and_trained_moves(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone)
    model = toyed.training.model
    trains = set(surgery.trained(model))
    grouped = {name for group in toyed.training.optimizer.param_groups for name in group["names"]}
    assert grouped == trains
    before = toy.weights(toyed)
    toy.train(toyed, tmp_path)
    after = toy.weights(toyed)
    for name, parameter in model.named_parameters():
        if name in trains:
            assert not torch.equal(before[name], after[name]), f"{name} did not move"
        else:
            assert torch.equal(before[name], after[name]), f"{name} moved"
            assert parameter.grad is None


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_trained_parameters_follow_the_formula(method: str, backbone: str) -> None:
    toyed = built(method, backbone)
    assert surgery.count(toyed.training.model)[0] == toyed.recipe.method.expected(toyed.training.model)


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_saved_and_loaded_is_bit_equal(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone)
    toy.train(toyed, tmp_path)
    recipe = toyed.recipe
    (tmp_path / "model").mkdir()
    artifact.write(toyed.backbone, recipe.method, tmp_path / "model")
    loaded = artifact.load(tmp_path / "model", recipe.model, recipe.task, recipe.method, recipe.train.seed)
    expected, found = toyed.training.model.state_dict(), loaded.model.state_dict()
    assert set(expected) == set(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_switched_off_is_the_backbone_and_merged_is_attached(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone)
    before = outputs(toyed)
    heads = {name: tensor.clone() for name, tensor in toyed.training.model.state_dict().items()}
    toy.train(toyed, tmp_path)
    trained = outputs(toyed)
    part = toyed.recipe.method
    assert isinstance(part, Method)
    if part.delta:
        # The head is trained too: put back, what is switched off must be the backbone again.
        for path in [name for name in heads if name.startswith(tuple(_heads(toyed)))]:
            toyed.training.model.state_dict()[path].copy_(heads[path])
        with surgery.switched_off(toyed.training.model):
            assert artifact.largest_difference(before, outputs(toyed)) <= SAME
        attached = outputs(toyed)
    else:
        attached = trained
    part.merge(toyed.training.model)
    assert not surgery.wrappers(toyed.training.model)
    assert artifact.largest_difference(attached, outputs(toyed)) <= artifact.TOLERANCE


def _heads(toyed: Prepared) -> list[str]:
    return [f"{name}." for name in anatomy.head(toyed.training.model)]
