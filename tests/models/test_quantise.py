"""Quantised backbones: what is packed, that deltas train beside it, and that merging gives a plain model back."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from tests import toy
from tunesmith.core import anatomy, registry, surgery
from tunesmith.core.errors import MissingExtraError, ModelError, RecipeError
from tunesmith.core.linear import weight_of
from tunesmith.core.part import Method
from tunesmith.core.quantised import Int8Linear, Nf4Linear, Quantised
from tunesmith.models import artifact
from tunesmith.models.load import Backbone, load
from tunesmith.models.settings import ModelSettings
from tunesmith.prepare import Prepared
from tunesmith.serve import session
from tunesmith.serve.session import probe_batches
from tunesmith.train import checkpoint

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: tunesmith[quantize]"
)

CLASS = "AutoModelForSequenceClassification"
LAYERS = {"nf4": Nf4Linear, "int8": Int8Linear}
KINDS = list(LAYERS)
CASES = [(backbone, kind) for backbone in toy.BACKBONES for kind in KINDS if kind == "nf4" or "bert" in backbone]
ROWS = [{"text": "amber basil cedar"}, {"text": "delta"}]
# Linears that transformers keeps in float32 for T5, whatever the rest is in, stay as they are.
PACKED = {"builtin:tiny-bert": 13, "builtin:tiny-gpt2": 8, "builtin:tiny-llama": 14, "builtin:tiny-t5": 28}


def loaded(name: str, kind: str | None, auto_class: str = CLASS, **settings: Any) -> Backbone:
    head = {"num_labels": 3} if auto_class == CLASS else {}
    return load(ModelSettings(name=name, quantize=cast(Any, kind), **settings), (auto_class,), head, 0)


def built(backbone: str, kind: str, method: Any = "lora", **train: Any) -> Prepared:
    settings = {"steps": 3, "learning_rate": 0.01, **train}
    return toy.prepared({"model": {"name": backbone, "quantize": kind}, "method": method, "train": settings})


def packed(model: torch.nn.Module) -> dict[str, Quantised]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Quantised)}


def outputs(toyed: Prepared, backbone: Backbone) -> list[torch.Tensor]:
    return artifact.outputs(backbone.model, probe_batches(toyed.recipe, backbone, ROWS))


def folder_of(path: Path, name: str = "builtin:tiny-bert") -> Path:
    plain = loaded(name, None)
    plain.model.save_pretrained(path)
    plain.tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize(("backbone", "kind"), CASES)
def test_the_body_is_packed_and_the_head_is_not(backbone: str, kind: str) -> None:
    plain, found = loaded(backbone, None), loaded(backbone, kind)
    model = found.model
    layers = packed(model)
    assert {type(layer) for layer in layers.values()} == {LAYERS[kind]} and len(layers) == PACKED[backbone]
    for name, head in anatomy.head(model).items():
        assert not packed(head)
        expected = plain.model.get_submodule(name).state_dict()
        assert all(torch.equal(expected[key], tensor) for key, tensor in head.state_dict().items())
    for path, layer in layers.items():
        whole = weight_of(plain.model.get_submodule(path))
        assert (weight_of(layer) - whole).abs().max() <= 0.2 * whole.abs().max()
    assert surgery.count(model)[1] == surgery.count(plain.model)[1]
    assert not getattr(model, "is_quantized", False) and not hasattr(model.config, "quantization_config")


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_layer_of_a_language_model_stays_and_stays_tied(kind: str) -> None:
    model = loaded("builtin:tiny-gpt2", kind, "AutoModelForCausalLM").model
    assert len(packed(model)) == 8
    words = anatomy.output_layer(model)
    assert words is not None and words.weight is model.get_input_embeddings().weight  # type: ignore[union-attr]


def test_the_same_file_gives_the_same_bits() -> None:
    first, again, other = (loaded("builtin:tiny-bert", kind).identity for kind in ("nf4", "nf4", "int8"))
    assert first == again and first.weights != other.weights


def test_types_of_a_model_in_bfloat16(tmp_path: Path) -> None:
    model = loaded(str(folder_of(tmp_path)), "nf4", dtype="bfloat16").model
    layer = next(iter(packed(model).values()))
    assert layer.bias is not None and layer.bias.dtype == torch.bfloat16
    # What says how large the codes are is never rounded.
    assert cast(Nf4Linear, layer).steps.dtype == cast(Nf4Linear, layer).offset.dtype == torch.float32
    assert model(torch.tensor([[1, 5, 2]])).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(("backbone", "kind"), CASES)
def test_a_delta_trains_is_saved_and_merges(backbone: str, kind: str, tmp_path: Path) -> None:
    toyed = built(backbone, kind, {"name": "lora", "targets": "all-linear"})
    model, recipe = toyed.training.model, toyed.recipe
    before = toy.weights(toyed)
    toy.train(toyed, tmp_path / "training")
    for name, tensor in toy.weights(toyed).items():
        assert torch.equal(before[name], tensor) == (name not in toyed.training.trained), name
    expected = outputs(toyed, toyed.backbone)

    saved = toy.save(toyed, tmp_path / "delta")
    again = artifact.load(saved, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    assert artifact.largest_difference(expected, outputs(toyed, again)) == 0.0
    assert not any(name.endswith((".offset", ".scales")) for name in checkpoint.weights(toyed.training))

    artifact.merge(again.model, recipe.method)
    assert not packed(again.model) and not surgery.inserted(again.model)
    artifact.prove(expected, outputs(toyed, again), "The merged model")
    again.model.save_pretrained(tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["dtype"] == "float32" and not {"quantization_config", "_is_quantized"} & set(config)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    theirs = toy.logits(plain, toyed.backbone.tokenizer)
    assert torch.equal(theirs, toy.logits(again.model, toyed.backbone.tokenizer))
    kept = {path: type(module) for path, module in loaded(backbone, None).model.named_modules()}
    assert {path: type(module) for path, module in plain.named_modules()} == kept
    assert (Conv1D in kept.values()) == ("gpt2" in backbone)
    assert model is not again.model and packed(model)  # the one that was trained is as it was


@pytest.mark.parametrize(
    "method", [n for n in registry.names("methods") if cast(type[Method], registry.load("methods", n)).keeps_backbone]
)
def test_every_method_that_keeps_its_backbone_trains_and_merges(method: str, tmp_path: Path) -> None:
    try:
        toyed = built("builtin:tiny-bert", "nf4", method)
    except (ModelError, RecipeError) as refusal:
        pytest.skip(f"refused: {refusal.message}")
    before = {name: tensor.clone() for name, tensor in toyed.training.model.named_parameters()}
    toy.train(toyed, tmp_path)
    for name, parameter in toyed.training.model.named_parameters():
        assert parameter.requires_grad or torch.equal(parameter, before[name]), name
    expected = outputs(toyed, toyed.backbone)
    if toyed.recipe.method.cannot_merge:
        return
    artifact.merge(toyed.backbone.model, toyed.recipe.method)
    assert not packed(toyed.backbone.model)
    artifact.prove(expected, outputs(toyed, toyed.backbone), "The merged model")


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_gradients_pass_to_the_lowest_block(backbone: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        toyed = built(backbone, "nf4", activation_checkpointing=checkpointing)
        model = toyed.training.model
        for wrapper in surgery.wrappers(model).values():
            torch.nn.init.constant_(cast(torch.nn.Parameter, wrapper.lora_B), 0.1)
        toy.quiet(model.train())
        (batch,) = probe_batches(toyed.recipe, toyed.backbone, ROWS)
        model(**batch.inputs).logits.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in surgery.trained(model).items()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().sum() > 0, name
        other = cast(torch.Tensor, gradients[1][name])
        assert (gradient - other).abs().max() <= 1e-4 * gradient.abs().max(), name


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = built("builtin:tiny-bert", "nf4", steps=4)
    toy.train(whole, tmp_path / "whole")
    asked = iter([False, True])
    half = built("builtin:tiny-bert", "nf4", steps=4)
    assert not toy.train(half, tmp_path / "halves", interrupted=lambda: next(asked))
    rest = built("builtin:tiny-bert", "nf4", steps=4)
    assert toy.train(rest, tmp_path / "halves")
    expected, found = toy.weights(whole), toy.weights(rest)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_whole_run(tmp_path: Path) -> None:
    folder = toy.run(tmp_path, model={"name": "builtin:tiny-bert", "quantize": "int8"}, method="lora")
    assert "quantize: int8" in (folder / "recipe.yaml").read_text()
    loaded_again = session.load(folder)
    assert packed(loaded_again.backbone.model)
    before = loaded_again.predict(["amber basil"])
    assert loaded_again.merge(tmp_path / "merged") <= 1e-5
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    assert before == session.load(folder).predict(["amber basil"])


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4), ("int8", 8)])
def test_a_method_that_trains_the_backbone_is_refused(kind: str, bits: int) -> None:
    told = rf"model\.quantize: method 'full' trains the backbone's own weights, which {kind} stores in {bits} bits"
    with pytest.raises(RecipeError, match=told) as refusal:
        built("builtin:tiny-bert", kind, "full")
    assert "lora" in refusal.value.hint and "model.quantize" in refusal.value.hint


def test_a_delta_of_another_kind_of_packing_is_refused(tmp_path: Path) -> None:
    toyed = built("builtin:tiny-bert", "nf4")
    saved, recipe = toy.save(toyed, tmp_path / "delta"), toyed.recipe
    for other in ("int8", None):
        settings = recipe.model.model_copy(update={"quantize": other})
        with pytest.raises(ModelError, match="their weights differ"):
            artifact.load(saved, settings, recipe.task, recipe.method, recipe.train.seed)


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else real(name, *a)
    )
    with pytest.raises(MissingExtraError, match=r"nf4 needs the package bitsandbytes") as refusal:
        loaded("builtin:tiny-bert", "nf4")
    assert "pip install 'tunesmith[quantize]'" in refusal.value.hint


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_a_file_of_quantised_weights_is_refused(kind: str | None, tmp_path: Path) -> None:
    path = folder_of(tmp_path) / "config.json"
    told = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": told}))
    with pytest.raises(ModelError, match="holds quantised weights"):
        loaded(str(tmp_path), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(kind: str, value: float, tmp_path: Path) -> None:
    path = folder_of(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    tensors["bert.encoder.layer.0.attention.self.query.weight"][3, 5] = value
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not finite numbers, bert\.encoder\.layer\.0\.attention\.self\.query"):
        loaded(str(tmp_path), kind)
