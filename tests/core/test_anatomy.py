"""Where backbones keep their parts, on five families: found by structure, checked against names written here."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)
from transformers.pytorch_utils import Conv1D

from tests import toy
from tunesmith.core import anatomy, linear

TINY = ["tiny-bert", "tiny-gpt2", "tiny-llama", "tiny-t5"]


def model(name: str) -> Any:
    if name == "distilbert":
        config = DistilBertConfig(vocab_size=20, dim=8, hidden_dim=16, n_layers=3, n_heads=2)
        return DistilBertForSequenceClassification(config)
    if name == "roberta":
        sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
        return RobertaForSequenceClassification(RobertaConfig(vocab_size=20, num_hidden_layers=3, **sizes))
    return toy.prepared({"model": f"builtin:{name}"}).training.model


@pytest.mark.parametrize(
    ("name", "heads", "stacks"),
    [
        ("tiny-bert", ["classifier"], {"bert.encoder.layer": 2}),
        ("tiny-gpt2", ["score"], {"transformer.h": 2}),
        ("tiny-llama", ["score"], {"model.layers": 2}),
        ("tiny-t5", ["classification_head"], {"transformer.encoder.block": 2, "transformer.decoder.block": 2}),
        ("distilbert", ["pre_classifier", "classifier"], {"distilbert.transformer.layer": 3}),
        ("roberta", ["classifier"], {"roberta.encoder.layer": 3}),
    ],
)
def test_heads_and_stacks(name: str, heads: list[str], stacks: dict[str, int]) -> None:
    found = model(name)
    assert list(anatomy.head(found)) == heads
    assert {path: len(blocks) for path, blocks in anatomy.stacks(found).items()} == stacks
    # A bare backbone has no head, and its stacks have no prefix.
    body = anatomy.backbone(found)
    assert body is found.base_model and anatomy.head(body) == {}
    assert [len(blocks) for blocks in anatomy.stacks(body).values()] == list(stacks.values())


@pytest.mark.parametrize(
    ("name", "linears", "query_and_value"),
    [
        ("tiny-bert", 2 * 6, ["attention.self.query", "attention.self.value"]),
        ("tiny-gpt2", 2 * 4, ["attn.c_attn"]),
        ("tiny-llama", 2 * 7, ["self_attn.q_proj", "self_attn.v_proj"]),
        ("distilbert", 3 * 6, ["attention.q_lin", "attention.v_lin"]),
        ("roberta", 3 * 6, ["attention.self.query", "attention.self.value"]),
    ],
)
def test_linears_of_the_blocks(name: str, linears: int, query_and_value: list[str]) -> None:
    found = model(name)
    ((stack, blocks),) = anatomy.stacks(found).items()
    chosen = anatomy.query_and_value(found)
    assert list(chosen) == [f"{stack}.{n}.{path}" for n in range(len(blocks)) for path in query_and_value]
    assert len(anatomy.linears(found)) == linears
    assert all(found.get_submodule(path) is module for path, module in anatomy.linears(found).items())
    assert all(path.startswith(f"{stack}.") for path in anatomy.linears(found))


def test_linears_of_an_encoder_decoder() -> None:
    found = model("tiny-t5")
    # Two encoder blocks with one attention of four and a feed-forward of two, two decoder blocks with two attentions.
    assert len(anatomy.linears(found)) == 2 * (4 + 2) + 2 * (4 + 4 + 2)
    assert len(anatomy.query_and_value(found)) == 2 * 2 + 2 * 4
    assert not any("classification_head" in path for path in anatomy.linears(found))


def test_linears_of_a_bare_backbone_have_no_prefix() -> None:
    body = model("tiny-bert").base_model
    assert all(body.get_submodule(path) is module for path, module in anatomy.linears(body).items())
    assert len(anatomy.linears(body)) == 12


def test_features_are_in_and_out() -> None:
    assert linear.features(nn.Linear(3, 5)) == (3, 5)
    assert linear.features(Conv1D(5, 3)) == (3, 5)


@pytest.mark.parametrize(("name", "norms"), [("tiny-bert", 5), ("tiny-gpt2", 5), ("tiny-llama", 5), ("distilbert", 7)])
def test_norms_are_found_by_type(name: str, norms: int) -> None:
    # Two a block, and one at the embeddings or at the end.
    assert len(anatomy.norms(model(name))) == norms


@pytest.mark.parametrize("name", [*TINY, "distilbert", "roberta"])
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    found = model(name)
    # In these models they are the parameters of one dimension.
    assert anatomy.undecayed(found) == {path for path, parameter in found.named_parameters() if parameter.dim() < 2}


def test_biases_and_vectors_are_found_by_name_and_by_size() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2, 2))
            self.weight = nn.Parameter(torch.zeros(2))

    assert anatomy.undecayed(nn.Sequential(Shifted())) == {"0.bias", "0.weight"}


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("tiny-bert", 128),
        ("tiny-gpt2", 128),
        ("tiny-llama", 128),
        ("tiny-t5", None),  # relative positions have no end
        ("distilbert", 512),
        ("roberta", 510),  # 512 places, of which it counts from the padding index (1) on
    ],
)
def test_positions(name: str, positions: int | None) -> None:
    assert anatomy.positions(model(name)) == positions


def test_the_longest_sequence_of_roberta_goes_through() -> None:
    found = model("roberta")
    longest = anatomy.positions(found)
    assert longest is not None
    found(input_ids=torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        found(input_ids=torch.full((1, longest + 1), 5))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "tiny-bert",
            {"query": "self.query", "key": "self.key", "value": "self.value", "attention": "attention.output.dense",
             "up": "intermediate.dense", "down": "1.output.dense"},
        ),
        ("tiny-gpt2", {"qkv": "attn.c_attn", "attention": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}),
        (
            "tiny-llama",
            {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention": "o_proj", "up": "gate_proj|up_proj",
             "down": "down_proj"},
        ),
        (
            "distilbert",
            {"query": "q_lin", "key": "k_lin", "value": "v_lin", "attention": "out_lin", "up": "lin1", "down": "lin2"},
        ),
        (
            "tiny-t5",
            {"query": r"Attention\.q", "key": r"Attention\.k", "value": r"Attention\.v", "attention": r"Attention\.o",
             "up": "wi", "down": "wo"},
        ),
    ],
)  # fmt: skip
def test_every_linear_has_its_role(name: str, expected: dict[str, str]) -> None:
    found = model(name)
    roles = anatomy.roles(found)
    assert list(roles) == list(anatomy.linears(found))
    for path, role in roles.items():
        ending = expected[role].replace("1.output", r"layer\.\d\.output")
        assert re.search(rf"(?:{ending})$", path), (path, role)
    assert set(roles.values()) == set(expected)


def test_a_square_feed_forward_is_told_by_its_order() -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    roles = anatomy.roles(BertForMaskedLM(config))
    assert [path.partition("layer.0.")[2] for path, role in roles.items() if role in ("up", "down")] == [
        "intermediate.dense", "output.dense",
    ]  # fmt: skip
    assert roles["bert.encoder.layer.0.output.dense"] == "down"


def test_blocks_without_attention_have_no_roles() -> None:
    made = nn.Sequential(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]))
    assert anatomy.roles(made) == {}


def test_the_output_layer_of_a_language_model_is_no_head() -> None:
    sizes: dict[str, Any] = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    masked = BertForMaskedLM(BertConfig(**sizes, intermediate_size=8))
    assert anatomy.head(masked) == {} and anatomy.head_parameters(masked) == 0
    assert anatomy.output_layer(masked) is masked.cls.predictions.decoder
    classifier = model("tiny-bert")
    assert anatomy.output_layer(classifier) is None
    assert anatomy.head_parameters(classifier) == 32 * 3 + 3


def test_what_starts_fresh_around_an_output_layer_is_a_head() -> None:
    model = BertForMaskedLM(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
    around = [name for name in model.state_dict() if name.startswith("cls.predictions.")]
    # The decoder is tied to the embeddings, which a file of the body holds; so the loose bias alone is no module's.
    missing = [name for name in around if name != "cls.predictions.decoder.weight"]
    assert anatomy.note_fresh(model, missing) == ["cls.predictions.transform"]
    (path, module), *rest = anatomy.head(model).items()
    assert (path, module, rest) == ("cls.predictions.transform", model.cls.predictions.transform, [])
    assert anatomy.head_parameters(model) == 8 * 8 + 8 + 2 * 8
    again = BertForMaskedLM(BertConfig.from_dict(model.config.to_dict()))
    assert list(anatomy.head(again)) == ["cls.predictions.transform"]
    # A file that holds it all leaves no trace of another's.
    assert anatomy.note_fresh(again, []) == [] and anatomy.head(again) == {}
    assert "fresh_head" not in again.config.to_dict()


def test_a_head_that_is_fresh_as_a_whole_is_not_noted() -> None:
    found = model("roberta")
    assert anatomy.note_fresh(found, [name for name in found.state_dict() if name.startswith("classifier.")]) == []
    assert list(anatomy.head(found)) == ["classifier"] and "fresh_head" not in found.config.to_dict()


def test_word_embeddings_are_found_wherever_their_weight_is() -> None:
    assert list(anatomy.word_embeddings(model("tiny-bert"))) == ["bert.embeddings.word_embeddings"]
    assert list(anatomy.word_embeddings(model("tiny-t5"))) == [
        "transformer.shared", "transformer.encoder.embed_tokens", "transformer.decoder.embed_tokens",
    ]  # fmt: skip


def small(kind: type, config: type, **other: Any) -> Any:
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    return kind(config(vocab_size=20, num_hidden_layers=2, **sizes, **other))


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("tiny-bert", "output.LayerNorm"),
        ("roberta", "output.LayerNorm"),
        ("distilbert", "output_layer_norm"),
        ("tiny-gpt2", None),
        ("tiny-llama", None),
        ("tiny-t5", None),
    ],
)
def test_norms_after_the_feed_forward(name: str, norm: str | None) -> None:
    found = model(name)
    down = [path for path, role in anatomy.roles(found).items() if role == "down"]
    blocks = anatomy.blocks(found)
    assert len(down) == len(blocks)
    expected = {path: f"{block}.{norm}" for path, block in zip(down, blocks, strict=True)} if norm else {}
    assert anatomy.norms_after(found) == expected


def test_norms_after_in_language_models_and_in_other_places() -> None:
    masked = small(BertForMaskedLM, BertConfig)
    assert list(anatomy.norms_after(masked).values())[1] == "bert.encoder.layer.1.output.LayerNorm"
    # Gemma 2 has a norm on the feed-forward's output, before the sum: no such norm.
    assert anatomy.norms_after(small(Gemma2ForCausalLM, Gemma2Config, num_key_value_heads=1, head_dim=4)) == {}
    with torch.device("meta"):
        assert len(anatomy.norms_after(small(BertForMaskedLM, BertConfig))) == 2


def test_looking_for_norms_leaves_no_trace() -> None:
    found = small(BertForMaskedLM, BertConfig).train()
    found.bert.encoder.layer[0].output.eval()
    modes, before = [module.training for module in found.modules()], torch.get_rng_state()
    anatomy.norms_after(found)
    assert [module.training for module in found.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_hooks for module in found.modules())
