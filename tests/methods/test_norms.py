"""Norms: every normalisation layer trains, as in peft's LN_TUNING."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LNTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel

from tests import toy
from tunesmith.core import surgery
from tunesmith.core.errors import ModelError
from tunesmith.methods.norms import Norms
from tunesmith.prepare import Prepared, load_backbone


def built(backbone: str = "builtin:tiny-bert") -> Prepared:
    return toy.prepared({"model": backbone, "method": "norms", "train": {"steps": 3}})


def test_the_count_is_the_papers() -> None:
    # Two norms a block and one at the embeddings: 0.03 % of BERT-base's 110 million, as Qi et al. say.
    with torch.device("meta"):
        model = BertModel(BertConfig())
    Norms().modify(model, torch.Generator())
    assert surgery.count(model)[0] == Norms().expected(model) == (12 * 2 + 1) * 2 * 768 == 38_400


@pytest.mark.parametrize(
    ("backbone", "vectors", "endings"),
    [
        ("builtin:tiny-bert", 2 * 5, ("LayerNorm.weight", "LayerNorm.bias")),
        ("builtin:tiny-gpt2", 2 * 5, tuple(f"ln_{n}.{kind}" for n in "12f" for kind in ("weight", "bias"))),
        ("builtin:tiny-llama", 5, ("input_layernorm.weight", "post_attention_layernorm.weight", "model.norm.weight")),
        # Encoder: two a block and one; decoder: three a block and one.
        ("builtin:tiny-t5", 2 * 2 + 1 + 2 * 3 + 1, ("layer_norm.weight",)),
    ],
)  # fmt: skip
def test_every_norm_trains_and_the_head(backbone: str, vectors: int, endings: tuple[str, ...]) -> None:
    toyed = built(backbone)
    model = toyed.training.model
    names = set(surgery.trained(model))
    ours = {name for name in names if not name.startswith(("classif", "score"))}
    assert ours == {name for name, _ in model.named_parameters() if name.endswith(endings)}
    assert ours < names and len(ours) == vectors
    found = toyed.recipe.method.tensors(model)
    assert set(found) == ours and sum(tensor.numel() for tensor in found.values()) == 32 * vectors


@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning", "ignore:.*is_gradient_check:FutureWarning")
@pytest.mark.parametrize("backbone", ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama"])
def test_they_are_those_that_peft_trains(backbone: str) -> None:
    toyed = built(backbone)
    # peft has a list of names for the other two, and none for BERT.
    named = ["LayerNorm"] if backbone == "builtin:tiny-bert" else None
    config = LNTuningConfig(task_type=TaskType.SEQ_CLS, target_modules=named)
    theirs = get_peft_model(load_backbone(toyed.recipe).model, config)
    trained = {name for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    plain = {
        name.removeprefix("base_model.model.")
        .replace(".ln_tuning_layers.default", "")
        .replace(".modules_to_save.default", "")
        for name in trained
    }
    assert plain == set(surgery.trained(toyed.training.model))


def test_its_delta_makes_the_model_out_of_the_backbone(tmp_path: Path) -> None:
    toyed = built()
    toy.train(toyed, tmp_path)
    tensors = load_file(toy.save(toyed, tmp_path / "model") / "delta.safetensors")
    plain = load_backbone(toyed.recipe).model
    assert not plain.load_state_dict(tensors, strict=False).unexpected_keys
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    assert torch.equal(toy.logits(plain, toyed.backbone.tokenizer), expected)


def test_a_pre_trained_output_layers_norm_counts_too() -> None:
    model = BertForMaskedLM(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    Norms().modify(model, torch.Generator())
    assert "cls.predictions.transform.LayerNorm.weight" in surgery.trained(model)
    assert "cls.predictions.bias" not in surgery.trained(model)


def test_norms_without_weights_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2, elementwise_affine=False))
    with pytest.raises(ModelError, match="no normalisation layers with weights"):
        Norms().modify(model, torch.Generator())
