"""Virtual tokens: where they go in, and what stands behind them."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BartModel,
    DynamicCache,
)

from tunesmith.core.errors import ModelError
from tunesmith.methods.virtual_tokens import behind, holds_tokens, in_front, owners, takes
from tunesmith.models.builtin import tiny_configs

BART = BartConfig(
    vocab_size=50, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("tiny-bert", ["bert"]),
        ("tiny-gpt2", ["transformer"]),
        ("tiny-llama", ["model"]),
        ("tiny-t5", ["transformer.encoder", "transformer.decoder"]),
    ],
)
def test_the_owners_of_blocks_are_found(name: str, places: list[str]) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_configs()[name])
    paths = {module: path for path, module in model.named_modules()}
    assert [paths[owner] for owner in owners(model)] == places
    assert all(takes(owner, "input_ids", "past_key_values") for owner in owners(model))


def test_a_bare_body_is_its_own_owner_and_other_models_have_none() -> None:
    body = AutoModel.from_config(tiny_configs()["tiny-bert"])
    assert owners(body) == [body]
    bart = BartModel(BART)
    assert owners(bart) == [bart.encoder, bart.decoder]
    assert not takes(bart.encoder, "past_key_values")
    assert owners(nn.Sequential(nn.ModuleList([nn.Linear(2, 2)]))) == []


def test_masks_and_positions_begin_behind_the_virtual_tokens() -> None:
    mask, positions = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
    given = {"attention_mask": mask, "position_ids": positions, "use_cache": True, "labels": None}
    changed = behind(given, 2)
    assert changed["attention_mask"].tolist() == [[1, 1, 0, 1, 1]]
    assert changed["position_ids"].tolist() == [[2, 2, 3]]
    assert changed["use_cache"] is True and changed["labels"] is None
    assert given["attention_mask"] is mask
    assert behind({"input_ids": mask}, 2) == {"input_ids": mask}
    assert in_front(torch.zeros(2, 3, 1), 2, 7).tolist() == [[[7, 7, 0]] * 3] * 2


def test_a_mask_for_pairs_of_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="one entry a token"):
        behind({"attention_mask": torch.ones(1, 1, 3, 3)}, 2)


def test_a_cache_holds_tokens_once_the_model_has_read_some() -> None:
    model, cache = AutoModelForCausalLM.from_config(tiny_configs()["tiny-llama"]), DynamicCache()
    assert not holds_tokens(None) and not holds_tokens(cache)
    model(torch.tensor([[1]]), past_key_values=cache)
    assert holds_tokens(cache)
