"""AdamW: decay where it belongs, bias correction from the first step on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tests import toy
from tunesmith.core import surgery
from tunesmith.core.errors import MissingExtraError, RecipeError
from tunesmith.core.part import Part
from tunesmith.train import clip, optimizer
from tunesmith.train.settings import TrainSettings


class Extra(Part):
    """A part with a trainable tensor of its own."""

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """One number."""
        return [("extra", nn.Parameter(torch.ones(1)))]


def models() -> dict[str, nn.Module]:
    small: dict[str, Any] = {"vocab_size": 20, "num_labels": 2}
    roberta = {**small, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    distilbert = {**small, "dim": 8, "hidden_dim": 8, "n_layers": 1, "n_heads": 2}
    tiny = {name.removeprefix("builtin:"): toy.prepared({"model": name}).training.model for name in toy.BACKBONES}
    return {
        **tiny,
        "distilbert": DistilBertForSequenceClassification(DistilBertConfig(**distilbert)),
        "roberta": RobertaForSequenceClassification(RobertaConfig(**roberta)),
    }


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-gpt2", "tiny-llama", "tiny-t5", "distilbert", "roberta"])
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    model = models()[name]
    built = optimizer.build(model, [], TrainSettings(weight_decay=0.1), 1e-3)
    decays = {one: group["weight_decay"] for group in built.param_groups for one in group["names"]}
    # In these models the weights with one dimension are the biases and the norms' gains.
    expected = {one: 0.1 if parameter.dim() > 1 else 0.0 for one, parameter in model.named_parameters()}
    assert decays == expected
    assert all(group["peak"] == 1e-3 for group in built.param_groups)


def test_known_names_are_not_decayed() -> None:
    # What a list of substrings such as "LayerNorm" misses.
    model = models()
    for name, path in (
        ("distilbert", "distilbert.transformer.layer.0.sa_layer_norm.weight"),
        ("distilbert", "distilbert.transformer.layer.0.output_layer_norm.weight"),
        ("tiny-llama", "model.layers.0.input_layernorm.weight"),
        ("tiny-gpt2", "transformer.h.0.ln_1.weight"),
        ("tiny-t5", "transformer.encoder.block.0.layer.0.layer_norm.weight"),
    ):
        built = optimizer.build(model[name], [], TrainSettings(weight_decay=0.1), 1e-3)
        assert path in next(group["names"] for group in built.param_groups if not group["weight_decay"])


def test_a_part_brings_its_own_tensors() -> None:
    built = optimizer.build(nn.Linear(2, 2), [Extra()], TrainSettings(weight_decay=0.0), 1e-3)
    assert [group["names"] for group in built.param_groups] == [["weight", "bias", "extra"]]


def test_a_model_in_which_nothing_trains_is_refused() -> None:
    model = nn.Linear(2, 2)
    surgery.freeze(model)
    with pytest.raises(RecipeError, match="Nothing trains"):
        optimizer.build(model, [], TrainSettings(), 1e-3)


def test_the_first_step_moves_by_the_rate_and_the_sign_of_the_gradient() -> None:
    # With bias correction the first moments' ratio is g / |g|; without it the step is sqrt(0.001) / 0.1, 3.16 times
    # smaller or larger by the side one looks from (Mosbach et al., 2021).
    model, rate = nn.Linear(50, 40), 1e-3
    before = model.weight.detach().clone()
    built = optimizer.build(model, [], TrainSettings(weight_decay=0.0), rate)
    gradient = torch.randn(40, 50)
    model.weight.grad = gradient.clone()
    built.step()
    assert torch.allclose(model.weight - before, -rate * gradient.sign(), rtol=1e-3, atol=1e-7)


def test_decay_shrinks_weights_and_spares_biases() -> None:
    model = nn.Linear(3, 2)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    built = optimizer.build(model, [], TrainSettings(weight_decay=0.1), 0.01)
    model.weight.grad, model.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    built.step()
    # Decoupled decay (Loshchilov and Hutter, 2019): w <- w - rate * decay * w.
    assert torch.allclose(model.weight, weight * (1 - 0.01 * 0.1))
    assert torch.equal(model.bias, bias)


def test_steps_are_those_of_the_formula() -> None:
    model = nn.Linear(4, 1, bias=False)
    value = model.weight.detach().double().clone()
    built = optimizer.build(model, [], TrainSettings(weight_decay=0.1), 0.01)
    first, second = torch.zeros(1, 4).double(), torch.zeros(1, 4).double()
    for step in range(1, 6):
        gradient = torch.randn(1, 4)
        model.weight.grad = gradient.clone()
        built.step()
        # Kingma and Ba, 2015, algorithm 1, with the decay outside of the moments.
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9**step), second / (1 - 0.999**step)
        value = value - 0.01 * 0.1 * value - 0.01 * corrected[0] / (corrected[1].sqrt() + 1e-8)
    assert torch.allclose(model.weight.double(), value, atol=1e-6)


class Faster(Part):
    """Gives some parameters a rate of their own."""

    def rates(self, model: nn.Module) -> dict[str, float]:
        """Ten times the rate for the classifier."""
        return {name: 10.0 for name, _ in model.named_parameters() if name.startswith("classifier")}


def test_a_part_may_give_parameters_a_rate_of_their_own() -> None:
    model = toy.prepared({}).training.model
    built = optimizer.build(model, [Faster()], TrainSettings(weight_decay=0.1), 1e-3)
    rates = {one: (group["peak"], group["weight_decay"]) for group in built.param_groups for one in group["names"]}
    assert set(rates) == set(surgery.trained(model))
    assert rates["classifier.weight"] == (pytest.approx(1e-2), 0.1)
    assert rates["classifier.bias"] == (pytest.approx(1e-2), 0.0)
    assert rates["bert.pooler.dense.weight"] == (pytest.approx(1e-3), 0.1)
    assert all(group["lr"] == group["peak"] for group in built.param_groups)


def test_moments_in_eight_bits_move_weights_alike() -> None:
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    start = nn.Sequential(nn.Embedding(100, 64), nn.Linear(64, 128))
    moved = []
    for word in ("adamw", "adamw_8bit"):
        model = copy.deepcopy(start)
        built = optimizer.build(model, [], TrainSettings(optimizer=word, weight_decay=0.1), 0.01)
        assert [group["names"] for group in built.param_groups] == [["0.weight", "1.weight"], ["1.bias"]]
        draw = torch.Generator().manual_seed(1)
        for _ in range(8):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            clip.step(built, float(clip.norm(built)), 1.0)
        moved.append((model[1].weight - start[1].weight).detach())
    # Block-wise quantised moments: steps of nearly the same size and direction.
    assert torch.nn.functional.cosine_similarity(moved[0].view(1, -1), moved[1].view(1, -1)).item() > 0.98
    assert moved[1].norm() / moved[0].norm() == pytest.approx(1.0, abs=0.1)
    state = built.state
    assert state[model[1].weight]["state1"].dtype == torch.uint8
    assert state[model[0].weight]["state1"].dtype == torch.float32


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=r"adamw_8bit needs the package bitsandbytes(.|\n)*tunesmith\[quantize\]"
    ):
        optimizer.build(nn.Linear(2, 2), [], TrainSettings(optimizer="adamw_8bit"), 1e-3)


def test_pages_are_refused_where_all_memory_is_the_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(RecipeError, match=r"paged_adamw_8bit does not work on cpu(.|\n)*adamw_8bit on a CPU too"):
        optimizer.build(nn.Linear(2, 2), [], TrainSettings(optimizer="paged_adamw_8bit"), 1e-3)


@pytest.mark.parametrize("word", ["adamw", "adamw_8bit"])
def test_a_resume_is_the_same_to_the_bit(word: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    values = {"train": {"steps": 6, "learning_rate": 0.01, "optimizer": word}}
    whole = toy.prepared(values)
    toy.train(whole, tmp_path / "whole")
    asked = iter([False, False, True])
    assert not toy.train(toy.prepared(values), tmp_path / "halves", interrupted=lambda: next(asked))
    again = toy.prepared(values)
    toy.train(again, tmp_path / "halves")
    assert all(torch.equal(toy.weights(again)[name], one) for name, one in toy.weights(whole).items())
