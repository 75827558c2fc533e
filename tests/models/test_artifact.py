"""What is saved gives what was trained, and a difference is found."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from tests import toy
from tunesmith.core.errors import ArtifactError, DivergedError
from tunesmith.models import artifact
from tunesmith.serve.session import probe_batches


@pytest.mark.parametrize("method", ["full", "head_only", "lora"])
@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_what_was_written_gives_the_same_outputs(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = toy.prepared({"method": method, "model": backbone, "train": {"steps": 2, "learning_rate": 0.01}})
    toy.train(toyed, tmp_path)
    recipe = toyed.recipe
    folder = toy.save(toyed, tmp_path / "model")
    loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    batches = probe_batches(recipe, toyed.backbone, [{"text": "amber basil"}, {"text": "x" * 500}])
    trained = artifact.outputs(toyed.backbone.model, batches)
    assert artifact.prove(trained, artifact.outputs(loaded.model, batches), "The model") == 0.0
    assert loaded.limit == toyed.backbone.limit
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs("amber é")["input_ids"] == toyed.backbone.tokenizer("amber é")["input_ids"]


def test_only_safetensors_and_json_are_written(tmp_path: Path) -> None:
    for method in ("full", "lora"):
        folder = toy.save(toy.prepared({"method": method}), tmp_path / method)
        assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".jinja"}


@pytest.mark.parametrize(("size", "difference", "fine"), [(1.0, 9e-6, True), (1.0, 2e-5, False), (100.0, 9e-4, True)])
def test_a_difference_is_measured_against_the_size_of_the_outputs(size: float, difference: float, fine: bool) -> None:
    trained = [torch.zeros(2, 3), torch.tensor([[size, 0.0]]).double()]
    loaded = [torch.zeros(2, 3), torch.tensor([[size, difference]]).double()]
    assert artifact.largest_difference(trained, loaded) == pytest.approx(difference)
    if fine:
        assert artifact.prove(trained, loaded, "The model") == pytest.approx(difference)
    else:
        with pytest.raises(ArtifactError, match=r"The model gives other outputs.*differ by up to 2e-05"):
            artifact.prove(trained, loaded, "The model")


def test_outputs_that_are_no_numbers_are_never_equal() -> None:
    broken = [torch.tensor([math.nan])]
    assert artifact.largest_difference(broken, broken) == math.inf
    with pytest.raises(ArtifactError):
        artifact.prove([torch.zeros(1)], broken, "The model")
    with pytest.raises(DivergedError, match="No model is saved"):
        artifact.check_finite([torch.zeros(2), torch.tensor([1.0, math.inf])])
    artifact.check_finite([torch.zeros(2)])


def test_outputs_are_those_of_evaluation() -> None:
    toyed = toy.prepared({})
    batches = probe_batches(toyed.recipe, toyed.backbone, [{"text": "amber"}])
    toyed.training.model.train()
    first, second = (artifact.outputs(toyed.training.model, batches) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert toyed.training.model.training


def test_a_change_of_one_weight_is_found(tmp_path: Path) -> None:
    toyed = toy.prepared({"method": "lora"})
    batches = probe_batches(toyed.recipe, toyed.backbone, [{"text": "amber"}])
    trained = artifact.outputs(toyed.training.model, batches)
    with torch.no_grad():
        toyed.training.model.get_parameter("classifier.bias")[1] += 1e-3
    with pytest.raises(ArtifactError):
        artifact.prove(trained, artifact.outputs(toyed.training.model, batches), "The model")
