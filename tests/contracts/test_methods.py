"""What every method keeps, on an encoder, two decoders and an encoder-decoder, and on two real backbones.

A method may refuse a backbone, in one sentence that says why; it must take at least two of the four tiny ones.
"""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import toy
from tunesmith.core import anatomy, registry, surgery
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.core.part import Method
from tunesmith.models import artifact
from tunesmith.models.identity import Identity
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.serve.session import probe_batches

METHODS = registry.names("methods")
CASES = [(method, backbone) for method in METHODS for backbone in toy.BACKBONES]
STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260k"
REAL = [
    "builtin:minilm",
    pytest.param(str(STORIES), marks=pytest.mark.skipif(not STORIES.is_dir(), reason="no shared")),
]
SAME = 1e-6
ROWS = [{"text": "amber basil cedar"}, {"text": "delta"}]


def kind(method: str) -> type[Method]:
    return cast(type[Method], registry.load("methods", method))


DELTAS = [(method, backbone) for method, backbone in CASES if kind(method).delta]


def built(method: str, backbone: str, **train: Any) -> Prepared:
    settings = {"steps": 3, "learning_rate": 0.01, "weight_decay": 0.1, **train}
    try:
        return toy.prepared({"method": method, "model": backbone, "train": settings})
    except (ModelError, RecipeError) as refusal:
        told = refusal.message
        assert told.endswith(".") and "\n" not in told and len(told) > 30, told
        pytest.skip(f"refused: {told}")


def outputs(toyed: Prepared) -> list[torch.Tensor]:
    return artifact.outputs(toyed.backbone.model, probe_batches(toyed.recipe, toyed.backbone, ROWS))


def method_of(toyed: Prepared) -> Method:
    return toyed.recipe.method


@pytest.mark.parametrize("method", METHODS)
def test_it_takes_most_backbones(method: str) -> None:
    refused = []
    for backbone in toy.BACKBONES:
        try:
            toy.prepared({"method": method, "model": backbone})
        except ModelError as refusal:
            refused.append(refusal.message)
    assert len(refused) <= 2, refused


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_outputs_at_step_0_are_the_backbones(method: str, backbone: str) -> None:
    changed = built(method, backbone)
    plain = load_backbone(changed.recipe)
    expected = artifact.outputs(plain.model, probe_batches(changed.recipe, plain, ROWS))
    same = artifact.largest_difference(expected, outputs(changed)) <= SAME
    assert same == method_of(changed).equal_at_start


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_frozen_stays_and_trained_moves(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone)
    _train(toyed, tmp_path)


def _train(toyed: Prepared, folder: Path) -> None:
    model = toyed.training.model
    trains = set(surgery.trained(model))
    grouped = {name for group in toyed.training.optimizer.param_groups for name in group["names"]}
    assert grouped == trains
    before = toy.weights(toyed)
    toy.train(toyed, folder)
    after = toy.weights(toyed)
    for name, parameter in model.named_parameters():
        if name in trains:
            # A bias of keys changes no softmax: all that ever moves it is rounding.
            assert not torch.equal(before[name], after[name]) or name.endswith("key.bias"), f"{name} did not move"
        else:
            assert torch.equal(before[name], after[name]), f"{name} moved"
            assert parameter.grad is None
        assert parameter.dtype == before[name].dtype
    if method_of(toyed).keeps_backbone:
        original = load_backbone(toyed.recipe).model
        theirs = {id(place) for place in _body_places(model, original)}
        assert not any(id(parameter) in theirs for parameter in surgery.trained(model).values())


def _body_places(model: torch.nn.Module, original: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters of the changed model that hold the bits of the original body's."""
    body = {tuple(p.shape): [] for p in original.parameters()}  # type: ignore[var-annotated]
    heads = tuple(f"{name}." for name in anatomy.head(original))
    for name, parameter in original.named_parameters():
        if not name.startswith(heads):
            body[tuple(parameter.shape)].append(parameter)
    return [p for p in model.parameters() if any(torch.equal(p, q) for q in body.get(tuple(p.shape), []))]


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_trained_parameters_follow_the_formula(method: str, backbone: str) -> None:
    toyed = built(method, backbone)
    assert surgery.count(toyed.training.model)[0] == toyed.recipe.method.expected(toyed.training.model)


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_saved_and_loaded_is_bit_equal(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone)
    toy.train(toyed, tmp_path)
    _round_trip(toyed, tmp_path)


def _round_trip(toyed: Prepared, folder: Path) -> Path:
    saved = toy.save(toyed, folder / "model")
    recipe = toyed.recipe
    loaded = artifact.load(saved, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    expected, found = toyed.training.model.state_dict(), loaded.model.state_dict()
    assert set(expected) == set(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert loaded.limit == toyed.backbone.limit
    return saved


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_switched_off_is_the_backbone_and_merged_is_attached(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone)
    heads = _head_weights(toyed)
    toy.train(toyed, tmp_path)
    _switch_and_merge(toyed, heads)


def _switch_and_merge(toyed: Prepared, heads: dict[str, torch.Tensor]) -> None:
    model, part = toyed.backbone.model, method_of(toyed)
    trained = outputs(toyed)
    if part.keeps_backbone:
        # The head is trained too: put back, what is switched off must be the backbone again.
        plain = load_backbone(toyed.recipe)
        expected = artifact.outputs(plain.model, probe_batches(toyed.recipe, plain, ROWS))
        now = _head_weights(toyed)
        _set_heads(toyed, heads)
        with surgery.switched_off(model):
            assert artifact.largest_difference(expected, outputs(toyed)) <= SAME
        _set_heads(toyed, now)
        assert artifact.largest_difference(trained, outputs(toyed)) == 0.0
    if part.cannot_merge:
        with pytest.raises(ModelError, match="can't be merged"):
            artifact.merge(model, part)
        return
    artifact.merge(model, part)
    assert not surgery.inserted(model)
    assert artifact.prove(trained, outputs(toyed), "The merged model") < 1e-4
    plain_names = set(load_backbone(toyed.recipe).model.state_dict())
    assert set(model.state_dict()) == plain_names


def _head_weights(toyed: Prepared) -> dict[str, torch.Tensor]:
    heads = tuple(f"{name}." for name in anatomy.head(toyed.training.model))
    return {name: t.clone() for name, t in toyed.training.model.state_dict().items() if name.startswith(heads)}


def _set_heads(toyed: Prepared, heads: dict[str, torch.Tensor]) -> None:
    places = toyed.training.model.state_dict()
    for name, tensor in heads.items():
        places[name].copy_(tensor)


@pytest.mark.parametrize("backbone", REAL)
@pytest.mark.parametrize("method", METHODS)
def test_all_of_it_holds_on_real_backbones(method: str, backbone: str, tmp_path: Path) -> None:
    if method == "full" and "minilm" in backbone:
        pytest.skip("every other test trains it")
    toyed = built(method, backbone)
    plain = load_backbone(toyed.recipe)
    expected = artifact.outputs(plain.model, probe_batches(toyed.recipe, plain, ROWS))
    assert (artifact.largest_difference(expected, outputs(toyed)) <= 1e-5) == method_of(toyed).equal_at_start
    assert surgery.count(toyed.training.model)[0] == toyed.recipe.method.expected(toyed.training.model)
    heads = _head_weights(toyed)
    _train(toyed, tmp_path)
    _round_trip(toyed, tmp_path)
    _switch_and_merge(toyed, heads)


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_activation_checkpointing_changes_no_gradient(method: str, backbone: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        toyed = built(method, backbone, activation_checkpointing=checkpointing)
        model = toyed.training.model
        _shake(toyed)
        model.train()
        toy.quiet(model)
        (batch,) = probe_batches(toyed.recipe, toyed.backbone, ROWS)
        model(**batch.inputs).logits.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in surgery.trained(model).items()})
    first, second = gradients
    for name, gradient in first.items():
        assert gradient is not None and gradient.abs().sum() > 0, f"{name} has no gradient"
        difference = (gradient - cast(torch.Tensor, second[name])).abs().max()
        assert difference <= 1e-4 * gradient.abs().max(), name


def _shake(toyed: Prepared) -> None:
    """Move everything that trains a little, so that no gradient is zero by the start alone."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in surgery.trained(toyed.training.model).values():
            parameter += 0.02 * torch.randn(parameter.shape, generator=noise)


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_it_trains_in_mixed_precision(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone, precision="bfloat16")
    toy.train(toyed, tmp_path)
    for name, parameter in surgery.trained(toyed.training.model).items():
        assert parameter.dtype == torch.float32, name
        assert parameter.isfinite().all(), name


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_it_trains_on_top_of_a_merged_delta(method: str, backbone: str, tmp_path: Path) -> None:
    built(method, backbone)
    earlier = toy.prepared({"method": "lora", "model": backbone, "train": {"steps": 2, "learning_rate": 0.01}})
    toy.train(earlier, tmp_path / "earlier")
    artifact.merge(earlier.backbone.model, earlier.recipe.method)
    folder = tmp_path / "merged"
    earlier.backbone.model.save_pretrained(folder)
    earlier.backbone.tokenizer.save_pretrained(folder)
    toyed = built(method, str(folder))
    toy.train(toyed, tmp_path / "later")
    _round_trip(toyed, tmp_path)


@pytest.mark.parametrize(("method", "backbone"), [case for case in DELTAS if "bert" in case[1] or "gpt2" in case[1]])
def test_a_delta_is_refused_where_it_does_not_belong_or_is_damaged(method: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(method, backbone)
    saved, recipe = toy.save(toyed, tmp_path / "model"), toyed.recipe
    arguments = (recipe.model, recipe.task, recipe.method, recipe.train.seed)
    (weights,) = saved.glob("*.safetensors")
    whole, tensors = weights.read_bytes(), load_file(weights)
    first = sorted(tensors)[0]
    for wrong in ({**tensors, first: torch.zeros(1, 1, 7)}, {k: t for k, t in tensors.items() if k != first}):
        save_file(wrong, weights)
        with pytest.raises(ModelError, match="doesn't fit"):
            artifact.load(saved, *arguments)
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is damaged"):
        artifact.load(saved, *arguments)
    weights.unlink()
    with pytest.raises(ModelError, match="is no such delta"):
        artifact.load(saved, *arguments)
    weights.write_bytes(whole)
    known = toyed.backbone.identity
    Identity("elsewhere", "0" * 64, known.tokenizer).write(saved)
    with pytest.raises(ModelError, match=rf"belongs to the backbone elsewhere.* not to {backbone}.*weights differ"):
        artifact.load(saved, *arguments)


@pytest.mark.parametrize("method", METHODS)
def test_what_it_says_of_itself(method: str) -> None:
    told = kind(method)
    assert 0 < told.learning_rate < 1
    assert told.at_inference and not told.at_inference.endswith(".")
    assert not told.cannot_merge.endswith(".")
    assert told.delta or not told.keeps_backbone
