"""Scores of words where they are read: losses and gradients are those that transformers' own classes give."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    DebertaV2Config,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    RobertaConfig,
)

from tests import toy
from tests.core.largest import Largest
from tunesmith.core import anatomy, portions, words
from tunesmith.core.notes import listening
from tunesmith.core.step import Batch, Step
from tunesmith.core.tokens import IGNORED, token_losses
from tunesmith.core.unpadded import unpadded
from tunesmith.models.builtin import tiny_configs

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
MADE: dict[str, Any] = {
    "bert": (AutoModelForMaskedLM, tiny_configs()["tiny-bert"]),
    "roberta": (AutoModelForMaskedLM, RobertaConfig(**SMALL, max_position_embeddings=40)),
    "gpt2": (AutoModelForCausalLM, tiny_configs()["tiny-gpt2"]),
    "llama": (AutoModelForCausalLM, tiny_configs()["tiny-llama"]),
    "t5": (AutoModelForSeq2SeqLM, tiny_configs()["tiny-t5"]),
    # One caps its scores, the other divides them.
    "gemma2": (AutoModelForCausalLM, Gemma2Config(**SMALL, num_key_value_heads=1, head_dim=8)),
    "granite": (AutoModelForCausalLM, GraniteConfig(**SMALL, logits_scaling=2.0)),
    # Its scores are a product with the word embeddings; what it calls its output layer is another.
    "deberta": (AutoModelForMaskedLM, DebertaV2Config(**SMALL, legacy=False)),
}
PLAIN = ["bert", "roberta", "gpt2", "llama", "t5"]


def made(name: str) -> Any:
    auto, config = MADE[name]
    torch.manual_seed(0)
    model = auto.from_config(copy.deepcopy(config))
    toy.quiet(model)
    return model.train()


def batch_for(model: Any) -> tuple[Batch, Tensor]:
    """Three sequences of unequal length, and labels for about half of the real tokens."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, model.config.vocab_size, (3, 9), generator=draw)
    mask = (torch.arange(9) < torch.tensor([9, 5, 7])[:, None]).long()
    chosen = (torch.rand(3, 9, generator=draw) < 0.5) & mask.bool()
    labels = torch.where(chosen, torch.randint(5, model.config.vocab_size, (3, 9), generator=draw), IGNORED)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids.flip(0)
    return Batch(inputs, {}), labels


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(found: dict[str, Tensor], expected: dict[str, Tensor], near: float = 1e-5) -> bool:
    assert found.keys() == expected.keys()
    return all(torch.allclose(found[name], one, atol=near, rtol=near) for name, one in expected.items())


def step_of(model: nn.Module, batch: Batch, **settings: Any) -> Step:
    return Step(model, Any, batch, **settings)  # type: ignore[arg-type]


@pytest.fixture(params=["whole", "portions"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All labelled positions at once, and a few at a time."""
    if request.param == "portions":
        monkeypatch.setattr(portions, "PORTION", 1)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("name", PLAIN)
def test_loss_and_gradients_are_those_of_transformers(name: str) -> None:
    model = made(name)
    batch, labels = batch_for(model)
    shifts = not model.config.is_encoder_decoder and name not in ("bert", "roberta")
    # transformers moves a decoder's labels itself: what a position says belongs to the next one.
    own = torch.cat([torch.full((3, 1), IGNORED), labels[:, :-1]], dim=1) if shifts else labels
    told = labels[:, :-1] if shifts else labels
    mean = model(**batch.inputs, labels=own).loss
    count = int((told != IGNORED).sum())
    expected = gradients(model, count * mean)
    ours = torch.cat([told, torch.full((3, 1), IGNORED)], dim=1) if shifts else labels
    loss = words.word_loss(step_of(model, batch), ours)
    assert words.way(model) == "states"
    assert loss.item() == pytest.approx(count * mean.item(), rel=1e-5)
    assert same(gradients(model, loss), expected)


@pytest.mark.parametrize("name", list(MADE))
def test_every_way_is_the_plain_one(name: str) -> None:
    model = made(name)
    batch, labels = batch_for(model)
    plain = token_losses(step_of(model, batch, unread=False).outputs.logits, labels)
    loss = words.word_loss(step_of(model, batch), labels)
    assert loss.item() == pytest.approx(plain.sum().item(), rel=1e-5)
    assert same(gradients(model, loss), gradients(model, plain.sum()))
    losses = words.word_losses(step_of(model, batch), labels)
    assert losses.shape == labels.shape and not losses.requires_grad
    assert torch.allclose(losses, plain, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "way", "told"),
    [
        ("llama", "states", ""),
        ("gemma2", "positions", "Gemma2ForCausalLM changes scores after its output layer"),
        ("granite", "positions", "GraniteForCausalLM changes scores after its output layer"),
        ("deberta", "positions", "DebertaV2ForMaskedLM has an output layer that is no plain linear"),
    ],
)
def test_what_a_model_does_with_its_scores_is_noticed_and_said_once(name: str, way: str, told: str) -> None:
    model = made(name)
    with listening() as notes:
        assert [words.way(model), words.way(model)] == [way, way]
    assert [told in one for one in notes] == ([True] if told else [])


def test_a_head_that_looks_at_other_positions_gets_them_all() -> None:
    model = made("llama")

    class Sums(nn.Module):
        def forward(self, states: Tensor) -> Tensor:
            return states.cumsum(dim=1)

    model.lm_head = nn.Sequential(Sums(), model.lm_head)
    batch, labels = batch_for(model)
    with listening() as notes:
        found = words.word_losses(step_of(model, batch), labels)
    assert words.way(model) == "all" and "does not let its head read single positions" in notes[0]
    assert torch.allclose(found, token_losses(model(**batch.inputs).logits, labels), atol=1e-5)


@pytest.mark.parametrize("watched", ["hook", "type"])
def test_an_output_layer_that_does_more_is_left_as_it_is(watched: str) -> None:
    model = made("llama")
    if watched == "hook":
        model.lm_head.register_forward_hook(lambda module, given, output: 2 * output)
    else:
        model.lm_head.__class__ = type("Odd", (nn.Linear,), {"forward": lambda own, x: 2 * (x @ own.weight.T)})
    batch, labels = batch_for(model)
    found = words.word_losses(step_of(model, batch), labels)
    assert words.way(model) == "positions"
    assert torch.allclose(found, token_losses(model(**batch.inputs).logits, labels), atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = made("bert")
    batch, labels = batch_for(model)
    names, before = list(model.state_dict()), model(**batch.inputs).logits
    model.bert.eval()
    words.word_loss(step_of(model, batch), labels)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    assert sum(hooks) == 0 and all("forward" not in vars(module) for module in model.modules())
    assert model.training and not model.bert.training and not model.bert.encoder.training
    assert list(model.state_dict()) == names and torch.equal(copy.deepcopy(model)(**batch.inputs).logits, before)


def test_a_run_that_fails_leaves_it_too() -> None:
    model = made("bert")
    batch, labels = batch_for(model)
    words.way(model)
    wrong = Batch({**batch.inputs, "input_ids": batch.inputs["input_ids"] + 10_000}, {})
    with pytest.raises(IndexError):
        words.word_loss(step_of(model, wrong), labels)
    assert all(not module._forward_hooks and "forward" not in vars(module) for module in model.modules())


class Counted:
    """How often a model runs."""

    def __init__(self, model: nn.Module) -> None:
        self.runs = 0
        model.register_forward_pre_hook(self.count)

    def count(self, module: nn.Module, given: Any) -> None:
        """One more."""
        self.runs += 1


def test_a_step_runs_the_model_once() -> None:
    model = made("bert")
    words.way(model)
    batch, labels = batch_for(model)
    counted = Counted(model)
    step = step_of(model, batch)
    chosen = labels != IGNORED
    with torch.no_grad():
        told = words.read(step, chosen | (batch.inputs["input_ids"] > 30))
        losses = words.word_losses(step, labels)
        assert counted.runs == 1
        assert words.word_loss(step, labels).item() == pytest.approx(losses.sum().item(), rel=1e-6)
        assert counted.runs == 1
        # Scores at some of the positions are those of the whole model there.
        scores = torch.cat([one for _, one in told.at(chosen).scores()])
        assert torch.allclose(scores, step.outputs.logits[chosen], atol=1e-5)
    assert counted.runs == 2


def test_what_was_read_without_gradients_is_not_learned_from() -> None:
    model = made("bert")
    batch, labels = batch_for(model)
    step = step_of(model, batch)
    words.word_losses(step, labels)
    assert gradients(model, words.word_loss(step, labels))


def test_another_output_layer_is_tried_anew() -> None:
    model = made("llama")
    assert words.way(model) == "states"
    model.lm_head = nn.Sequential(model.lm_head, nn.Tanh())
    assert words.way(model) == "positions"


@pytest.mark.parametrize("first", [True, False])
def test_outputs_of_the_whole_model_are_used_where_they_are_there(first: bool) -> None:
    model = made("llama")
    words.way(model)
    batch, labels = batch_for(model)
    step = step_of(model, batch, unread=first)
    if first:
        assert step.outputs.logits.shape == (3, 9, model.config.vocab_size)
    counted = Counted(model)
    expected = token_losses(step.outputs.logits, labels).sum()
    assert torch.allclose(words.word_loss(step, labels), expected)
    assert counted.runs == (0 if first else 1)


@pytest.mark.parametrize("name", PLAIN)
def test_no_label_is_no_loss(name: str) -> None:
    model = made(name)
    batch, labels = batch_for(model)
    none = torch.full_like(labels, IGNORED)
    loss = words.word_loss(step_of(model, batch), none)
    assert loss.item() == 0
    assert all(not one.any() for one in gradients(model, loss).values())
    assert not words.word_losses(step_of(model, batch), none).any()


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_micro_batches_add_up(name: str) -> None:
    model = made(name)
    batch, labels = batch_for(model)
    whole = gradients(model, words.word_loss(step_of(model, batch), labels))
    model.zero_grad()
    for row in range(3):
        inputs = {key: tensor[row : row + 1] for key, tensor in batch.inputs.items()}
        words.word_loss(step_of(model, Batch(inputs, {})), labels[row : row + 1]).backward()
    parts = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert same(parts, whole)


@pytest.mark.parametrize("name", PLAIN)
def test_with_activation_checkpointing(name: str) -> None:
    model = made(name)
    batch, labels = batch_for(model)
    expected = gradients(model, words.word_loss(step_of(model, batch), labels))
    model.activation_checkpointing_enable({"use_reentrant": False})
    assert same(gradients(model, words.word_loss(step_of(model, batch), labels)), expected)


@pytest.mark.parametrize("name", PLAIN)
def test_under_autocast_products_are_in_its_type(name: str) -> None:
    model = made(name)
    batch, labels = batch_for(model)
    exact = words.word_loss(step_of(model, batch), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        told = words.read(step_of(model, batch), labels != IGNORED)
    # The loss is made outside, as in training.
    loss = told.loss(labels[labels != IGNORED])
    assert told.kind == torch.bfloat16 and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2) and loss.item() != exact.item()
    found, expected = gradients(model, loss), gradients(model, exact)
    for key, one in expected.items():
        assert (found[key] - one).norm() <= 0.2 * one.norm() + 1e-4


@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
@pytest.mark.parametrize(("task", "model"), [("generate", "tiny-gpt2"), ("generate", "tiny-t5"), ("fill", "tiny-bert")])
def test_with_virtual_tokens_and_low_rank_products(method: str, task: str, model: str) -> None:
    toyed = toy.prepared({"model": f"builtin:{model}", "task": task, "method": method})
    body: Any = toyed.training.model
    toy.quiet(body)
    batch, labels = batch_for(body.train())
    plain = token_losses(step_of(body, batch, unread=False).outputs.logits, labels).sum()
    loss = words.word_loss(step_of(body, batch), labels)
    assert words.way(body) == "states"
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert same(gradients(body, loss), gradients(body, plain))


def test_the_matrix_of_all_scores_is_never_made() -> None:
    config = LlamaConfig(**{**SMALL, "vocab_size": 5_000}, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config)
    batch, labels = batch_for(model)
    words.way(model)
    found = {}
    for unread in (False, True):
        with Largest() as largest:
            words.word_loss(step_of(model, batch, unread=unread), labels).backward()
        found[unread] = largest.numbers
    count = int((labels != IGNORED).sum())
    assert found == {False: 27 * 5_000, True: max(count, SMALL["hidden_size"]) * 5_000} and count < 27


def test_what_is_known_of_a_model_goes_with_it() -> None:
    model = made("bert")
    words.way(model)
    known = len(words._WAYS)
    del model
    gc.collect()
    assert len(words._WAYS) < known


@pytest.mark.parametrize("name", PLAIN)
def test_with_blocks_that_run_without_padding(name: str) -> None:
    model = made(name)
    batch, labels = batch_for(model)
    plain = token_losses(step_of(model, batch, unread=False).outputs.logits, labels).sum()
    expected = gradients(model, plain)
    with unpadded(model) as why:
        assert not why
        loss = words.word_loss(step_of(model, batch), labels)
        found = gradients(model, loss)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert same(found, expected)


def test_the_body_of_a_class_that_holds_it_itself_is_its_decoder() -> None:
    model = made("t5")
    assert anatomy.backbone(model) is model and words._body(model) is model.decoder
    assert words._body(made("bert")) is not None
