"""What every delta keeps on top of another one, and with another one on top: every method, on four backbones.

A pair may be refused, in one sentence that says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import toy
from tests.contracts.test_methods import METHODS, ROWS, SAME, kind
from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.models import artifact
from tunesmith.models.load import Backbone
from tunesmith.prepare import Prepared
from tunesmith.serve.session import probe_batches

STACKED = [method for method in METHODS if kind(method).keeps_backbone]
PAIRS = [
    (below, method, "builtin:tiny-bert")
    for below in STACKED
    for method in STACKED
    if "peft" not in (below, method) and (below in ("lora", "ia3", "bottleneck", "prompt") or method == "lora")
]
PAIRS += [
    (below, method, backbone)
    for backbone in toy.BACKBONES[1:]
    for below, method in (
        ("lora", "lora"), ("lora", "bottleneck"), ("ia3", "lora"), ("lora", "head_only"), ("bottleneck", "bottleneck"),
        ("prefix", "lora"), ("lora", "prompt"), ("prompt", "ia3"), ("gralora", "dora"), ("aflora", "prefix"),
    )
]  # fmt: skip
TRAIN = {"steps": 3, "learning_rate": 0.01, "weight_decay": 0.1}


def test_methods_that_keep_the_backbone_can_be_stacked() -> None:
    assert set(STACKED) >= {
        "aflora", "bottleneck", "dora", "gralora", "head_only", "ia3", "lora", "peft", "prefix", "prompt"
    }  # fmt: skip
    assert not {"full", "bitfit", "norms", "top_blocks"} & set(STACKED)


@pytest.mark.parametrize(("below", "method", "backbone"), PAIRS)
def test_a_delta_stands_on_another(below: str, method: str, backbone: str, tmp_path: Path) -> None:
    earlier, folder, toyed = built(below, method, backbone, tmp_path)
    recipe, model = toyed.recipe, toyed.training.model
    expected = outputs(earlier, earlier.backbone)
    same = artifact.largest_difference(expected, outputs(toyed, toyed.backbone)) <= SAME
    assert same == recipe.method.equal_at_start
    assert surgery.count(model)[0] == recipe.method.expected(model)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    heads = head_weights(toyed)
    toy.train(toyed, tmp_path / "second")
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
    assert all(now[name].grad is None for name in frozen)
    # Where both wrap one module the lower is the upper's `base`.
    kept = {name.replace(".base.", "."): tensor.detach() for name, tensor in delta_below(toyed).items()}
    stored = load_file(next(folder.glob("*.safetensors")))
    assert all(torch.equal(stored[name], tensor) for name, tensor in kept.items())
    assert (len(kept) == 0) == (below == "head_only")
    trained = outputs(toyed, toyed.backbone)
    swap_heads(toyed, heads)
    with surgery.switched_off(model):
        assert artifact.largest_difference(expected, outputs(toyed, toyed.backbone)) <= SAME
    swap_heads(toyed, heads)
    saved_and_merged(toyed, trained, tmp_path / "saved")


def built(below: str, method: str, backbone: str, folder: Path) -> tuple[Prepared, Path, Prepared]:
    """A trained delta, where it lies, and a training on top of it."""
    first = made(method=below, model=backbone)
    toy.train(first, folder / "first")
    saved = toy.save(first, folder / "run" / "model")
    return first, saved, made(method=method, model={"name": backbone, "earlier": [str(saved.parent)]})


def made(**values: Any) -> Prepared:
    try:
        return toy.prepared({**values, "train": TRAIN})
    except (ModelError, RecipeError) as refusal:
        told = refusal.message
        assert told.endswith(".") and "\n" not in told and len(told) > 30, told
        pytest.skip(f"refused: {told}")


def outputs(toyed: Prepared, backbone: Backbone) -> list[torch.Tensor]:
    return artifact.outputs(backbone.model, probe_batches(toyed.recipe, backbone, ROWS))


def delta_below(toyed: Prepared) -> dict[str, torch.Tensor]:
    with surgery.revealed(toyed.training.model, 1):
        return toyed.backbone.below[0].method.tensors(toyed.training.model)


def head_weights(toyed: Prepared) -> dict[str, torch.Tensor]:
    heads = tuple(f"{name}." for name in anatomy.head(toyed.training.model))
    return {name: t.clone() for name, t in toyed.training.model.state_dict().items() if name.startswith(heads)}


def swap_heads(toyed: Prepared, heads: dict[str, torch.Tensor]) -> None:
    """Put other weights into the head, and keep those that were there."""
    places = toyed.training.model.state_dict()
    for name, tensor in list(heads.items()):
        heads[name] = places[name].clone()
        places[name].copy_(tensor)


def saved_and_merged(toyed: Prepared, trained: list[torch.Tensor], folder: Path) -> None:
    recipe, saved = toyed.recipe, toy.save(toyed, folder)
    loaded = artifact.load(saved, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    ours, theirs = toyed.training.model.state_dict(), loaded.model.state_dict()
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert loaded.limit == toyed.backbone.limit
    assert artifact.largest_difference(trained, outputs(toyed, loaded)) <= SAME
    every = [*(one.method for one in loaded.below), recipe.method.shipped()]
    if any(one.cannot_merge for one in every):
        with pytest.raises(ModelError, match="can't be merged"):
            artifact.merge(loaded.model, every[-1], loaded.below)
        return
    artifact.merge(loaded.model, every[-1], loaded.below)
    assert not any(isinstance(module, surgery.Wrapper | surgery.Inserted) for module in loaded.model.modules())
    assert artifact.prove(trained, outputs(toyed, loaded), "The merged model") < 1e-4
