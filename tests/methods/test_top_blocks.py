"""Top blocks: which weights train, by name, on models that order their modules in several ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    T5ForConditionalGeneration,
)

from tests import toy
from tests.methods.test_full import BLOCK, HEAD, POOLER
from tunesmith.core import surgery
from tunesmith.core.errors import ModelError
from tunesmith.methods.top_blocks import TopBlocks
from tunesmith.models.builtin import tiny_configs
from tunesmith.prepare import Prepared

SMALL: dict[str, Any] = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS: dict[str, Any] = tiny_configs()


def built(backbone: str = "builtin:tiny-bert", **settings: Any) -> Prepared:
    return toy.prepared({"model": backbone, "method": {"name": "top_blocks", **settings}, "train": {"steps": 2}})


def trained_of(model: nn.Module, count: int) -> set[str]:
    TopBlocks(count=count).modify(model, torch.Generator())
    return set(surgery.trained(model))


def outside(names: set[str], block: str) -> set[str]:
    """The names that are not of the block, which must have some."""
    assert any(name.startswith(block) for name in names)
    return {name for name in names if not name.startswith(block)}


@pytest.mark.parametrize(
    ("backbone", "block", "others"),
    [
        ("builtin:tiny-bert", "bert.encoder.layer.1.", {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}),
        ("builtin:tiny-gpt2", "transformer.h.1.", {"transformer.ln_f.weight", "transformer.ln_f.bias"}),
        ("builtin:tiny-llama", "model.layers.1.", {"model.norm.weight"}),
        ("builtin:tiny-t5", "transformer.decoder.block.1.", {"transformer.decoder.final_layer_norm.weight"}),
    ],
)
def test_the_top_block_trains_and_what_stands_above(backbone: str, block: str, others: set[str]) -> None:
    toyed = built(backbone, count=1)
    model = toyed.training.model
    names = set(surgery.trained(model))
    heads = {name for name in names if name.startswith(("classif", "score"))}
    assert heads and outside(names, block) == others | heads
    assert all(name in names for name, _ in model.named_parameters() if name.startswith(block))
    assert set(toyed.recipe.method.tensors(model)) == names - heads


def test_parameters_by_hand() -> None:
    toyed = built(count=1)
    assert toyed.recipe.method.expected(toyed.training.model) == BLOCK + POOLER + HEAD
    both = built()
    assert surgery.count(both.training.model)[0] == 2 * BLOCK + POOLER + HEAD


def test_an_output_layer_tied_to_the_embeddings_stays() -> None:
    tied = GPT2LMHeadModel(CONFIGS["tiny-gpt2"])
    assert outside(trained_of(tied, 1), "transformer.h.1.") == {"transformer.ln_f.weight", "transformer.ln_f.bias"}
    masked = BertForMaskedLM(BertConfig(**SMALL, intermediate_size=16))
    above = outside(trained_of(masked, 1), "bert.encoder.layer.2.")
    transform = {f"cls.predictions.transform.{name}" for name in ("dense.weight", "dense.bias")}
    assert above == transform | {f"cls.predictions.transform.LayerNorm.{name}" for name in ("weight", "bias")}
    shared = T5ForConditionalGeneration(CONFIGS["tiny-t5"])
    assert outside(trained_of(shared, 1), "decoder.block.1.") == {"decoder.final_layer_norm.weight"}


def test_an_output_layer_of_its_own_trains() -> None:
    config = CONFIGS["tiny-llama"]
    assert not config.tie_word_embeddings
    own = LlamaForCausalLM(config)
    assert outside(trained_of(own, 1), "model.layers.1.") == {"model.norm.weight", "lm_head.weight"}


def test_norms_are_told_from_those_of_embeddings_whatever_the_order() -> None:
    # OPT registers its final norm before its blocks, BART the norm of its embeddings behind them.
    opt = OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=16, word_embed_proj_dim=8))
    final = {"model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"}
    assert outside(trained_of(opt, 1), "model.decoder.layers.2.") == final
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    bart = BartForSequenceClassification(BartConfig(vocab_size=20, d_model=8, **sizes))
    above = outside(trained_of(bart, 1), "model.decoder.layers.1.")
    assert all(name.startswith("classification_head.") for name in above)


def test_its_delta_makes_the_model_out_of_the_backbone(tmp_path: Path) -> None:
    toyed, plain = built(count=1), built(count=2)
    toy.train(toyed, tmp_path)
    tensors = load_file(toy.save(toyed, tmp_path / "model") / "delta.safetensors")
    assert set(tensors) == set(surgery.trained(toyed.training.model))
    model = plain.training.model
    assert not model.load_state_dict(tensors, strict=False).unexpected_keys
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    assert torch.equal(toy.logits(model, toyed.backbone.tokenizer), expected)


def test_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(ModelError, match=r"method\.count: 3 blocks .* has 2\.(.|\n)*Set it to at most 2"):
        built(count=3)
    with pytest.raises(ModelError, match=r"method\.count: 3 blocks .* T5ForSequenceClassification has 2"):
        built("builtin:tiny-t5", count=3)


@pytest.mark.parametrize("lists", [0, 2])
def test_a_model_whose_top_cannot_be_told_is_refused(lists: int) -> None:
    model = nn.ModuleDict({f"blocks{number}": nn.ModuleList([nn.Linear(2, 2)]) for number in range(lists)})
    with pytest.raises(ModelError, match=f"has {lists} lists of blocks instead of one list of blocks"):
        TopBlocks().modify(model, torch.Generator())
