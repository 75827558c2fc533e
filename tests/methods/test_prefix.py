"""Prefix tuning: what it does to attention, its network, and both ways between us and peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DynamicCache,
    T5ForTokenClassification,
)

from tests import toy
from tunesmith.core import delta, surgery
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.methods.prefix import Prefix, PrefixStates
from tunesmith.models import artifact
from tunesmith.models.builtin import tiny_configs
from tunesmith.prepare import Prepared, load_backbone

INTEROP = ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama", "builtin:minilm"]
SAME = 1e-5
IDS = torch.tensor([[1, 40, 50, 60, 70, 2]])
P = 5

# peft asks the model for a property under a name that transformers has since changed.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def built(backbone: str = "builtin:tiny-bert", **method: Any) -> Prepared:
    return toy.prepared({"model": backbone, "method": {"name": "prefix", "length": P, **method}})


def plain(toyed: Prepared, folder: Path) -> nn.Module:
    """The same backbone without our code: saved to a folder, and loaded by transformers alone."""
    load_backbone(toyed.recipe).model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def tiny(auto: Any, name: str) -> Any:
    """A tiny model of another class; the same one for the same arguments."""
    torch.manual_seed(0)
    return auto.from_config(tiny_configs()[name]).eval()


def prefixed(model: Any, **settings: Any) -> Any:
    Prefix(length=P, **settings).modify(model, torch.Generator().manual_seed(0))
    return model


def states(model: nn.Module) -> PrefixStates:
    return next(found for found in surgery.inserted(model).values() if isinstance(found, PrefixStates))


def test_as_many_parameters_as_the_formulas_say() -> None:
    with torch.device("meta"):
        # BERT-base's blocks and hidden size; the other sizes, made small, do not matter.
        model = BertForSequenceClassification(BertConfig(vocab_size=50, intermediate_size=8, num_labels=3))
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    method, head = Prefix(length=20), 768 * 3 + 3
    method.modify(model, torch.Generator().manual_seed(0))
    assert surgery.count(model)[0] == method.expected(model) == 368_640 + head
    toyed = built("builtin:tiny-llama", hidden=7)
    # Two blocks, two heads of eight numbers for keys: 64 numbers a token.
    counted = 5 * 16 + (16 + 1) * 7 + (7 + 1) * 64 + 32 * 3
    assert surgery.count(toyed.training.model)[0] == toyed.recipe.method.expected(toyed.training.model) == counted


@OF_PEFT
@pytest.mark.parametrize("hidden", [None, 6])
@pytest.mark.parametrize("backbone", INTEROP)
def test_our_prefix_loads_in_peft(backbone: str, hidden: int | None, tmp_path: Path) -> None:
    toyed = built(backbone, hidden=hidden)
    folder = toy.save(toyed, tmp_path / "delta")
    theirs = PeftModel.from_pretrained(plain(toyed, tmp_path / "plain"), str(folder))
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    assert (toy.logits(theirs, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


@OF_PEFT
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("backbone", INTEROP)
def test_a_prefix_of_peft_loads_here(backbone: str, network: bool, tmp_path: Path) -> None:
    toyed = built(backbone)
    config = PrefixTuningConfig(
        task_type=TaskType.SEQ_CLS, num_virtual_tokens=P, prefix_projection=network, encoder_hidden_size=6
    )
    theirs = get_peft_model(plain(toyed, tmp_path / "plain"), config).eval()
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path / "delta")
    head = "classifier" if "bert" in backbone or "minilm" in backbone else "score"
    assert {"prompt_embeddings", f"base_model.{head}.weight"} <= set(load_file(tmp_path / "delta" / delta.WEIGHTS))
    delta.read(toyed.training.model, toyed.recipe.method, tmp_path / "delta")
    expected = toy.logits(theirs, toyed.backbone.tokenizer)
    assert (toy.logits(toyed.training.model, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


@OF_PEFT
@pytest.mark.parametrize(
    ("auto", "name", "task"),
    [
        (AutoModelForSequenceClassification, "tiny-bert", TaskType.SEQ_CLS),
        (AutoModelForSequenceClassification, "tiny-llama", TaskType.SEQ_CLS),
        (AutoModelForCausalLM, "tiny-gpt2", TaskType.CAUSAL_LM),
        (AutoModelForCausalLM, "tiny-llama", TaskType.CAUSAL_LM),
    ],
)
def test_logits_and_gradients_are_pefts(auto: Any, name: str, task: TaskType) -> None:
    ours = prefixed(tiny(auto, name)).double()
    config = PrefixTuningConfig(task_type=task, num_virtual_tokens=P)
    theirs = get_peft_model(tiny(auto, name), config).double().eval()
    prefix = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        prefix.copy_(states(ours).rows())
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    given = {"input_ids": torch.cat([IDS, IDS * mask[1]]), "attention_mask": mask}
    logits = [model(**given).logits for model in (ours, theirs)]
    assert torch.allclose(logits[0], logits[1], atol=1e-6)
    for found in logits:
        found.square().sum().backward()
    assert prefix.grad is not None and prefix.grad.abs().max() > 0
    assert torch.allclose(states(ours).prompt_embeddings.grad, prefix.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_keys_and_values_of_words_are_those_words_before_the_text(name: str, use_cache: bool) -> None:
    words = torch.tensor([[1, 99, 98, 97, 96]])
    bare = tiny(AutoModelForCausalLM, name)
    expected = bare(torch.cat([words, IDS], dim=1)).logits[:, P:]
    cache = DynamicCache()
    bare(words, past_key_values=cache, use_cache=True)
    model = prefixed(bare)
    with torch.no_grad():
        pairs = [tensor[0].transpose(0, 1) for layer in cache.layers for tensor in (layer.keys, layer.values)]
        states(model).prompt_embeddings.copy_(torch.stack(pairs, dim=1).reshape(P, -1))
    embedded = model.get_input_embeddings()(IDS)
    for given in ({"input_ids": IDS}, {"inputs_embeds": embedded}):
        outputs = model(**given, use_cache=use_cache)
        assert torch.allclose(outputs.logits, expected, atol=1e-5)
        assert ("past_key_values" in outputs) == use_cache


def test_the_network_is_folded_away_when_saved(tmp_path: Path) -> None:
    for backbone in toy.BACKBONES:
        toyed = built(backbone, hidden=6)
        toy.train(toyed, tmp_path / backbone / "run")
        expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
        folder, recipe = toy.save(toyed, tmp_path / backbone / "delta"), toyed.recipe
        loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
        assert not hasattr(states(loaded.model), "network")
        assert (toy.logits(loaded.model, loaded.tokenizer) - expected).abs().max() <= SAME


def test_the_network_learns_more_slowly_than_the_head() -> None:
    training = built(hidden=6).training
    rates = {name: group["peak"] for group in training.optimizer.param_groups for name in group["names"]}
    network = {name for name in rates if ".prefix." in name}
    assert len(network) == 5  # the tokens, and two linears with biases
    base = rates["classifier.weight"]
    assert all(rates[name] == pytest.approx(base * (0.05 if name in network else 1)) for name in rates)
    alone = built().training
    assert {group["peak"] for group in alone.optimizer.param_groups} == {base}


def test_it_may_start_from_another_delta(tmp_path: Path) -> None:
    first = built(hidden=6)
    folder = toy.save(first, tmp_path / "delta")
    second = built(start=str(folder))
    second.recipe.method.setup(second.training)
    assert torch.equal(states(first.training.model).rows(), states(second.training.model).rows())
    with pytest.raises(ValueError, match="network of 'hidden' can't be found back"):
        Prefix(hidden=6, start=str(folder))


def test_its_numbers_are_dropped_in_training_alone() -> None:
    toyed = built(dropout=0.5)
    toy.quiet(toyed.training.model)
    model = toyed.training.model
    states(model).dropout.p = 0.5
    model.train()
    assert not torch.equal(model(IDS).logits, model(IDS).logits)
    model.eval()
    assert torch.equal(model(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("auto", "name"),
    [
        (AutoModelForTokenClassification, "tiny-bert"),
        (AutoModelForTokenClassification, "tiny-gpt2"),
        (AutoModelForQuestionAnswering, "tiny-bert"),
        (AutoModelForCausalLM, "tiny-llama"),
        (AutoModelForSeq2SeqLM, "tiny-t5"),
    ],
)
def test_a_task_sees_the_shapes_that_it_knows(auto: Any, name: str) -> None:
    more = {"decoder_input_ids": IDS} if auto is AutoModelForSeq2SeqLM else {}
    asked = {"input_ids": IDS, "output_hidden_states": True, "use_cache": False, **more}
    bare = tiny(auto, name)(**asked)
    changed = prefixed(tiny(auto, name))(**asked)
    assert set(bare) - {"past_key_values"} == set(changed)
    assert all(shapes(bare[key]) == shapes(changed[key]) for key in changed)


def shapes(value: Any) -> Any:
    return [shapes(one) for one in value] if isinstance(value, tuple) else value.shape


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_padding_changes_no_answer(backbone: str) -> None:
    toyed = built(backbone)
    texts = ["amber basil cedar", "delta", "fjord grove"]
    together = toy.logits(toyed.training.model, toyed.backbone.tokenizer, texts)
    for text, expected in zip(texts, together, strict=True):
        alone = toy.logits(toyed.training.model, toyed.backbone.tokenizer, [text])[0]
        assert torch.allclose(alone, expected, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_no_mask_means_that_nothing_is_hidden(attention: str) -> None:
    for name in ("tiny-bert", "tiny-gpt2", "tiny-llama"):
        model = prefixed(tiny(AutoModelForSequenceClassification, name))
        model.set_attn_implementation(attention)
        expected = model(IDS, attention_mask=torch.ones_like(IDS)).logits
        assert torch.allclose(model(IDS).logits, expected, atol=1e-6)


def test_a_backbone_in_bfloat16_gets_keys_of_its_own_type() -> None:
    model = prefixed(tiny(AutoModelForCausalLM, "tiny-llama").to(torch.bfloat16))
    assert states(model).prompt_embeddings.dtype == torch.float32
    outputs = model(IDS, use_cache=True)
    assert outputs.past_key_values.layers[0].keys.dtype == outputs.logits.dtype == torch.bfloat16


def test_of_an_encoder_decoder_the_decoder_has_it() -> None:
    toyed = built("builtin:tiny-t5")
    assert list(surgery.inserted(toyed.training.model)) == ["transformer.decoder.prefix"]


def test_a_backbone_without_a_cache_is_refused() -> None:
    small = DistilBertConfig(vocab_size=50, dim=8, n_heads=2, n_layers=1, hidden_dim=8)
    encoder = tiny_configs()["tiny-t5"]
    for model in (DistilBertForSequenceClassification(small), T5ForTokenClassification(encoder), nn.Linear(2, 2)):
        with pytest.raises(ModelError, match="has an attention that takes none"):
            prefixed(model)


def test_it_does_not_go_with_activation_checkpointing_or_a_length_that_leaves_no_text() -> None:
    values = {"method": "prefix", "train": {"activation_checkpointing": True}}
    with pytest.raises(RecipeError, match="travel in a cache"):
        toy.prepared(values)
    with pytest.raises(RecipeError, match="takes 121 of the 128 tokens"):
        built(length=121)
    assert built().backbone.limit == 128 - P


def test_under_mixed_precision_it_learns_in_float32() -> None:
    model = prefixed(tiny(AutoModelForCausalLM, "tiny-gpt2"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(IDS, use_cache=True)
        outputs.logits.float().square().sum().backward()
    assert outputs.past_key_values.layers[0].keys.dtype == torch.bfloat16
    assert states(model).prompt_embeddings.grad.dtype == torch.float32
