"""BitFit: the paper's counts, which biases train, and a patch of biases that makes the model out of its backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

from tests import toy
from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.methods.bitfit import Bitfit
from tunesmith.prepare import Prepared, load_backbone

# A block of BERT: four of attention, up, down, two norms. Outside: the embeddings' norm and the pooler.
BERT_BLOCK = 4 * 768 + 3072 + 768 + 2 * 768


def built(backbone: str = "builtin:tiny-bert", **settings: Any) -> Prepared:
    return toy.prepared({"model": backbone, "method": {"name": "bitfit", **settings}, "train": {"steps": 3}})


def test_the_counts_are_the_papers() -> None:
    # Table 1 of the paper: 0.09 % and 0.04 % of BERT-base's 110 million.
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    head = 768 * 2 + 2
    assert anatomy.head_parameters(model) == head
    for method, count in ((Bitfit(), 102_912), (Bitfit(which="query_and_up"), 46_080)):
        method.modify(model, torch.Generator())
        assert surgery.count(model)[0] - head == count == method.expected(model) - head
    assert 12 * BERT_BLOCK + 2 * 768 == 102_912 and 12 * (768 + 3072) == 46_080


@pytest.mark.parametrize(
    ("backbone", "head", "biases"),
    [
        ("builtin:tiny-bert", "classifier.", 2 * (4 * 32 + 64 + 32 + 2 * 32) + 2 * 32),
        ("builtin:tiny-gpt2", "score.", 2 * (3 * 32 + 32 + 4 * 32 + 32 + 2 * 32) + 32),
    ],
)
def test_every_bias_trains_and_the_head(backbone: str, head: str, biases: int) -> None:
    toyed = built(backbone)
    model = toyed.training.model
    expected = {name for name, _ in model.named_parameters() if name.endswith(".bias") or name.startswith(head)}
    assert set(surgery.trained(model)) == expected
    assert sum(tensor.numel() for tensor in toyed.recipe.method.tensors(model).values()) == biases


@pytest.mark.parametrize(
    ("backbone", "block", "paths"),
    [
        ("builtin:tiny-bert", "bert.encoder.layer", ["attention.self.query", "intermediate.dense"]),
        ("builtin:tiny-gpt2", "transformer.h", ["attn.c_attn", "mlp.c_fc"]),  # c_attn: one bias for all three
    ],
)
def test_the_smaller_variant_by_name(backbone: str, block: str, paths: list[str]) -> None:
    toyed = built(backbone, which="query_and_up")
    expected = {f"{block}.{number}.{path}.bias" for number in range(2) for path in paths}
    assert set(toyed.recipe.method.tensors(toyed.training.model)) == expected


def test_a_patch_of_biases_makes_the_model_out_of_the_backbone(tmp_path: Path) -> None:
    toyed = built()
    toy.train(toyed, tmp_path)
    patch = load_file(toy.save(toyed, tmp_path / "model") / "delta.safetensors")
    assert all(name.endswith(".bias") or name == "classifier.weight" for name in patch)
    plain = load_backbone(toyed.recipe).model
    assert not plain.load_state_dict(patch, strict=False).unexpected_keys
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    assert torch.equal(toy.logits(plain, toyed.backbone.tokenizer), expected)


def test_no_bias_decays() -> None:
    groups = built().training.optimizer.param_groups
    assert [name for group in groups if group["weight_decay"] for name in group["names"]] == ["classifier.weight"]


@pytest.mark.parametrize("which", ["all", "query_and_up"])
@pytest.mark.parametrize("backbone", ["builtin:tiny-llama", "builtin:tiny-t5"])
def test_a_model_without_biases_is_sent_to_norms(backbone: str, which: str) -> None:
    # T5's head has biases; they are the head's.
    with pytest.raises(ModelError, match=r"has no biases .*use the method 'norms' instead\.\nhint: Set method=norms"):
        built(backbone, which=which)
