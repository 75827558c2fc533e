"""Unpadded blocks against the same unmodified model of transformers on the padded batch."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BartConfig,
    DebertaV2Config,
    DistilBertConfig,
    Gemma2Config,
    MistralConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    ViTConfig,
)

from tunesmith.core import anatomy, registry, surgery
from tunesmith.core.layout import Layout
from tunesmith.core.unpadded import unpadded
from tunesmith.models.builtin import tiny_configs

TOKENS: dict[str, Any] = {"vocab_size": 259, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 131,
}  # fmt: skip
WINDOW = 8


def configs() -> dict[str, PreTrainedConfig]:
    """A tiny configuration of every family, without dropout."""
    tiny = tiny_configs()
    found: dict[str, PreTrainedConfig] = {
        "bert": tiny["tiny-bert"],
        "gpt2": tiny["tiny-gpt2"],
        "llama": tiny["tiny-llama"],
        "t5": tiny["tiny-t5"],
        "distilbert": DistilBertConfig(**TOKENS, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
        "roberta": RobertaConfig(**TOKENS, **WIDE),
        "mistral": MistralConfig(**TOKENS, **WIDE, num_key_value_heads=2, sliding_window=WINDOW),
        "modernbert": ModernBertConfig(
            **TOKENS, **{**WIDE, "num_hidden_layers": 3}, cls_token_id=1, sep_token_id=2,
            local_attention=WINDOW, global_attn_every_n_layers=2,
        ),
        "bart": BartConfig(
            **TOKENS, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=128,
            decoder_start_token_id=2, forced_eos_token_id=None,
        ),
    }  # fmt: skip
    for config in found.values():
        for name, value in vars(config).items():
            if "drop" in name and isinstance(value, float):
                setattr(config, name, 0.0)
    return found


HEADS: dict[str, Any] = {
    "classes": AutoModelForSequenceClassification,
    "tokens": AutoModelForTokenClassification,
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}
MODELS = [
    ("bert", "classes"), ("bert", "masked"), ("distilbert", "classes"), ("distilbert", "masked"),
    ("roberta", "classes"), ("roberta", "tokens"), ("modernbert", "classes"), ("modernbert", "masked"),
    ("gpt2", "classes"), ("gpt2", "causal"), ("llama", "classes"), ("llama", "causal"), ("mistral", "causal"),
    ("t5", "seq2seq"), ("t5", "tokens"), ("bart", "seq2seq"),
]  # fmt: skip
LENGTHS = {"one": (9,), "equal": (6, 6, 6), "long": (5, 60, 1, 12)}


def build(family: str, head: str) -> Any:
    """A model with weights large enough that attention is far from uniform."""
    torch.manual_seed(0)
    model = HEADS[head].from_config(configs()[family])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5 if parameter.std() < 0.1 else 1)
    return model


def batch(head: str, lengths: tuple[int, ...], left: bool = False) -> dict[str, Tensor]:
    """Texts of these lengths with their labels."""
    draw = torch.Generator().manual_seed(1)
    time = max(lengths)
    ids = torch.randint(3, 259, (len(lengths), time), generator=draw)
    places = torch.arange(time).expand(len(lengths), -1)
    counts = torch.tensor(lengths)[:, None]
    mask = (places >= time - counts) if left else (places < counts)
    ids = ids.masked_fill(~mask, 0)
    given = {"input_ids": ids, "attention_mask": mask.long()}
    if head == "classes":
        return given | {"labels": torch.arange(len(lengths)) % 2}
    if head == "tokens":
        return given | {"labels": (ids % 2).masked_fill(~mask, -100)}
    if head == "seq2seq":
        own = torch.randint(3, 259, (len(lengths), 7), generator=draw)
        own[:, 5:] = -100
        return given | {"labels": own}
    # The first word of a text padded on the left would be predicted from padding.
    return given | {"labels": ids.masked_fill(~mask | (left & ~mask.roll(1, 1)), -100)}


def results(model: Any, given: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and every gradient by name."""
    model.zero_grad()
    loss = model(**given).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def agree(found: tuple[Tensor, dict[str, Tensor]], wanted: tuple[Tensor, dict[str, Tensor]]) -> None:
    """Equal within float32's rounding: 1e-5 of the largest number."""
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert found[1].keys() == wanted[1].keys() and wanted[1]
    for name, gradient in wanted[1].items():
        assert (found[1][name] - gradient).abs().max() <= 1e-5 * max(1.0, float(gradient.abs().max())), name


@contextmanager
def watched(model: nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of what the first linear of the model's blocks gets."""
    seen: list[tuple[int, ...]] = []
    first = next(iter(anatomy.linears(model).values()))
    handle = first.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
    try:
        yield seen
    finally:
        handle.remove()


def on_row(seen: list[tuple[int, ...]], lengths: tuple[int, ...]) -> bool:
    """Whether what was seen is one row, filled up to a multiple of 32."""
    return [shape[:2] for shape in seen] == [(1, -(-sum(lengths) // 32) * 32)]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("family", "head"), MODELS)
def test_losses_and_gradients_agree(family: str, head: str, lengths: str) -> None:
    model, given = build(family, head).train(), batch(head, LENGTHS[lengths])
    wanted = results(model, given)
    with unpadded(model) as why, watched(model) as seen:
        found = results(model, given)
    assert why == ""
    assert on_row(seen, LENGTHS[lengths])
    agree(found, wanted)


@pytest.mark.parametrize(
    ("family", "head"), [("gpt2", "causal"), ("llama", "classes"), ("mistral", "causal"), ("bert", "masked")]
)
def test_padding_on_the_left(family: str, head: str) -> None:
    model, given = build(family, head).eval(), batch(head, LENGTHS["long"], left=True)
    wanted = results(model, given)
    with unpadded(model) as why, watched(model) as seen:
        found = results(model, given)
    assert why == "" and on_row(seen, LENGTHS["long"])
    agree(found, wanted)


@pytest.mark.parametrize(("family", "head"), [("t5", "seq2seq"), ("mistral", "causal"), ("bert", "masked")])
def test_holes_in_a_text(family: str, head: str) -> None:
    model, given = build(family, head).eval(), batch(head, (20, 30, 9))
    given["attention_mask"][:, 3:6] = 0
    if head != "seq2seq":
        given["labels"][:, 3:7] = -100  # no hole is a target, and nothing is predicted from one
    wanted = results(model, given)
    with unpadded(model) as why, watched(model) as seen:
        found = results(model, given)
    assert why == "" and on_row(seen, (17, 27, 6))
    agree(found, wanted)


@pytest.mark.parametrize(("family", "head"), [("bert", "classes"), ("gpt2", "classes"), ("t5", "seq2seq")])
def test_without_a_mask_every_token_is_real(family: str, head: str) -> None:
    model, given = build(family, head), batch(head, (6, 6))
    del given["attention_mask"]
    wanted = results(model, given)
    with unpadded(model), watched(model) as seen:
        found = results(model, given)
    assert on_row(seen, (6, 6))
    agree(found, wanted)


@pytest.mark.parametrize("told", ["positions", "positions, no cache", "pairs"])
def test_several_texts_in_a_row_of_a_batch_stay_as_they_are(told: str) -> None:
    model = build("llama", "causal").eval()
    given: dict[str, Any] = batch("causal", (9, 9)) | {"position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]] * 2)}
    del given["attention_mask"]
    if told == "positions, no cache":
        given["use_cache"] = False
    if told == "pairs":
        own = given["position_ids"].eq(0).cumsum(1)
        given["attention_mask"] = (own[:, None, :, None] == own[:, None, None, :]).tril()
    wanted = results(model, given)
    with unpadded(model) as why, watched(model) as seen:
        found = results(model, given)
    assert why == "" and seen == [(2, 9, 32)]
    agree(found, wanted)


@pytest.mark.parametrize(("family", "head"), [("bert", "classes"), ("gpt2", "causal"), ("t5", "seq2seq")])
def test_frozen_lower_blocks(family: str, head: str) -> None:
    model, given = build(family, head), batch(head, LENGTHS["long"])
    lowest = next(iter(anatomy.stacks(model).values()))[0]
    for module in (lowest, *anatomy.word_embeddings(model).values()):
        module.requires_grad_(False)
    wanted = results(model, given)
    with unpadded(model):
        found = results(model, given)
    agree(found, wanted)


@pytest.mark.parametrize(("family", "head"), [("bert", "classes"), ("llama", "causal"), ("t5", "seq2seq")])
def test_activation_checkpointing(family: str, head: str) -> None:
    model, given = build(family, head).train(), batch(head, LENGTHS["long"])
    wanted = results(model, given)
    model.activation_checkpointing_enable({"use_reentrant": False})
    with unpadded(model), watched(model) as seen:
        found = results(model, given)
    assert [shape[:2] for shape in seen] == [(1, 96)] * 2  # once forward, once again in the backward pass
    agree(found, wanted)


def test_two_forwards_before_the_backward_passes() -> None:
    model = build("bert", "classes")
    texts = [batch("classes", lengths) for lengths in ((5, 3), (2, 9, 4))]
    wanted = [results(model, given)[1] for given in texts]
    with unpadded(model):
        losses = [model(**given).loss for given in texts]
        model.zero_grad()
        sum(losses).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[0][name] + wanted[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fast", [True, False])
def test_dropout_acts_in_training_and_not_in_evaluation(fast: bool) -> None:
    config = tiny_configs()["tiny-bert"]
    config.hidden_dropout_prob, config.attention_probs_dropout_prob = 0.0, 0.5
    torch.manual_seed(0)
    model, given = AutoModelForSequenceClassification.from_config(config), batch("classes", (9, 4))
    with unpadded(model, fast_dropout=fast):
        same = [model.eval()(**given).logits for _ in range(2)]
        drawn = [model.train()(**given).logits for _ in range(2)]
    assert torch.equal(*same) and not torch.equal(*drawn)


@pytest.mark.parametrize("words", ["bfloat16", "inference"])
def test_other_ways_to_run(words: str) -> None:
    model, given = build("llama", "causal").eval(), batch("causal", (9, 4))
    real = given["attention_mask"].bool()
    kinds = {"bfloat16": torch.autocast("cpu", torch.bfloat16), "inference": torch.inference_mode()}
    with kinds[words], torch.no_grad():
        wanted = model(**given).logits[real]
        with unpadded(model):
            found = model(**given).logits[real]
    limit = 0.05 if words == "bfloat16" else 1e-5
    assert found.dtype == wanted.dtype
    assert (found - wanted).abs().max() <= limit * wanted.abs().max()


@pytest.mark.parametrize(
    ("family", "reads", "filled"), [("bert", "first", math.nan), ("distilbert", "first", math.nan),
                                    ("modernbert", "first", 0.0), ("gpt2", "last", 0.0), ("llama", "last", 0.0)]
)  # fmt: skip
def test_unread_tokens_are_found(family: str, reads: str, filled: float) -> None:
    model, given = build(family, "classes"), batch("classes", (5, 9, 2))
    look = Look()
    surgery.insert(next(iter(anatomy.stacks(model).values()))[-1], "look", look)
    with unpadded(model, unread=False):
        loss, logits = model(**given)[:2]
        every, states = look.layout, look.states
    with unpadded(model):
        assert torch.equal(model(**given).logits, logits)
        layout, found = look.layout, look.states
        again = results(model, given)
        agree(again, (loss.detach(), again[1]))
    assert isinstance(every, Layout) and isinstance(layout, Layout)
    assert every.read is None and layout.read is not None
    wanted = torch.tensor([0, 0, 0]) if reads == "first" else torch.tensor([4, 8, 1])
    assert torch.equal(layout.places[layout.read], torch.arange(3) * 9 + wanted)
    kept = torch.zeros(3, 9, dtype=torch.bool)
    kept[torch.arange(3), wanted] = True
    assert torch.equal(found[kept], states[kept])
    others = found[~kept]
    assert bool((others.isnan() if math.isnan(filled) else others == 0).all())


class Look(surgery.Inserted):
    """Keeps what its host got as attention mask, and what came out."""

    def after(self, host: nn.Module, arguments: dict[str, Any], output: Any) -> Any:
        self.layout = arguments["attention_mask"]
        self.states = (output[0] if isinstance(output, tuple) else output).detach()
        return output


class OnlyRead(nn.Module):
    """A last block that computes the tokens that are read alone."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.inner = [block]

    def __call__(self, hidden: Tensor, attention_mask: Layout, *given: Any, **named: Any) -> Tensor:
        block = self.inner[0]
        states = type(block).forward(block, hidden, attention_mask, *given, **named)  # [1, total, hidden]
        assert attention_mask.read is not None
        return states[:, attention_mask.read]


def test_a_last_block_may_give_only_what_is_read() -> None:
    model, given = build("bert", "classes"), batch("classes", (5, 9, 2))
    wanted = results(model, given)
    with unpadded(model):
        last = model.bert.encoder.layer[-1]
        last.forward = OnlyRead(last)
        found = results(model, given)
        del last.forward
    agree(found, wanted)


def test_a_hook_that_looks_at_states_sees_all_of_them() -> None:
    model, given = build("gpt2", "classes"), batch("classes", (5, 9, 2))
    seen: list[Tensor] = []
    with unpadded(model):
        handle = model.transformer.register_forward_hook(lambda *given: seen.append(given[2].last_hidden_state))
        model(**given)
        handle.remove()
        model.transformer(**{name: value for name, value in given.items() if name != "labels"})
    wanted = model.transformer(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    real = given["attention_mask"].bool()
    torch.testing.assert_close(seen[0][real], wanted[real])
    assert not bool(seen[0][~real].any() and not seen[0][~real].isfinite().all())


def test_the_body_alone_gives_every_state() -> None:
    model, given = build("bert", "classes").eval(), batch("classes", (5, 9, 2))
    given = {"input_ids": given["input_ids"], "attention_mask": given["attention_mask"]}
    real = given["attention_mask"].bool()
    wanted = model.bert(**given).last_hidden_state[real]
    with unpadded(model):
        states = model.bert(**given).last_hidden_state
    torch.testing.assert_close(states[real], wanted)
    assert not bool(states[~real].any())  # padding is zero


@pytest.mark.parametrize("reason", ["first token is padding", "last token has the padding's id"])
def test_a_read_token_that_is_not_where_it_is_sought(reason: str) -> None:
    family = "bert" if reason.startswith("first") else "gpt2"
    model = build(family, "classes").eval()
    given = batch("classes", (5, 9, 4), left=family == "bert")
    if family == "gpt2":
        given["input_ids"][0, 4] = 0  # real by the mask; transformers reads the token before it
    wanted = results(model, given)
    with unpadded(model):
        found = results(model, given)
    agree(found, wanted)


@pytest.mark.parametrize("asked", ["output_hidden_states", "output_attentions", "use_cache"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_call_that_asks_for_padded_values_gets_them(family: str, asked: str) -> None:
    model, given = build(family, "causal").eval(), batch("causal", (5, 9))
    if asked == "output_attentions":
        model.set_attn_implementation("eager")
    wanted = model(**given, **{asked: True})
    with unpadded(model) as why:
        assert why == ""
        found = model(**given, **{asked: True})
        plain = model(**given)
    torch.testing.assert_close(found.to_tuple()[:2], wanted.to_tuple()[:2])
    if asked == "use_cache":
        assert found.past_key_values.get_seq_length() == 9
        assert plain.past_key_values is None
    else:
        name = asked.removeprefix("output_")
        torch.testing.assert_close(found[name], wanted[name])


@pytest.mark.parametrize(("family", "head"), [("gpt2", "causal"), ("llama", "causal"), ("t5", "seq2seq")])
def test_generation_is_as_before(family: str, head: str) -> None:
    model = build(family, head).eval()
    given = {name: value for name, value in batch(head, (5, 9, 3), left=True).items() if name != "labels"}
    wanted = model.generate(**given, max_new_tokens=6, do_sample=False)
    with unpadded(model) as why:
        found = model.generate(**given, max_new_tokens=6, do_sample=False)
    assert why == "" and torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("family", "method"),
    [
        (family, method)
        for family in ("bert", "gpt2", "llama", "t5")
        for method in ("lora", "bottleneck", "ia3", "prompt", "prefix")
        if (family, method) != ("bert", "prefix")  # an encoder takes no cache, in which a prefix travels
    ],
)
def test_methods_agree(family: str, method: str) -> None:
    head = "seq2seq" if family == "t5" else "classes"
    model, given = build(family, head), batch(head, (5, 9, 2))
    draw = torch.Generator().manual_seed(0)
    spec = {"name": method, "length": 3} if method in ("prompt", "prefix") else method
    registry.build("methods", spec).modify(model, draw)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    wanted = results(model, given)
    with unpadded(model) as why, watched(model) as seen:
        found = results(model, given)
    # A prefix travels in a cache of keys and values, so the blocks that have it stay padded: of T5's, the decoder's.
    padded = method == "prefix" and family != "t5"
    assert ("such as a cache" in why) if padded else why == ""
    assert on_row(seen, (16 + (3 * 3 if method == "prompt" else 0),)) != padded
    agree(found, wanted)


def test_a_deep_copy_made_inside_runs_as_the_model_does() -> None:
    model, given = build("llama", "classes"), batch("classes", (5, 9, 2))
    wanted = results(model, given)
    with unpadded(model):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        with watched(twin) as seen:
            found = results(twin, given)
    assert on_row(seen, (16,))
    agree(found, wanted)


def test_everything_is_undone(tmp_path: Path) -> None:
    model, given = build("t5", "seq2seq").train(), batch("seq2seq", (5, 9, 2))
    before, hooks = copy.deepcopy(model.state_dict()), hook_count(model)
    implementations = [part.config._attn_implementation for part in (model, model.encoder, model.decoder)]
    wanted = results(model, given)
    state = torch.get_rng_state()
    with unpadded(model):
        model.save_pretrained(tmp_path)
        assert hook_count(model) > hooks and model.training
        assert torch.equal(torch.get_rng_state(), state)
    assert hook_count(model) == hooks
    assert [part.config._attn_implementation for part in (model, model.encoder, model.decoder)] == implementations
    assert "unpadded" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    again = results(model, given)
    assert torch.equal(again[0], wanted[0])


def test_an_error_inside_undoes_everything_too() -> None:
    model = build("bert", "classes")
    with pytest.raises(RuntimeError, match="inside"), unpadded(model):
        raise RuntimeError("inside")
    assert hook_count(model) == 0 and model.config._attn_implementation == "sdpa"


def test_a_call_that_fails_leaves_the_next_one_right() -> None:
    model, given = build("llama", "causal").eval(), batch("causal", (5, 9))
    wanted = model(**given).loss
    with unpadded(model):
        with pytest.raises(IndexError):
            model(input_ids=torch.full((1, 3), 9999), output_hidden_states=True)
        with watched(model) as seen:
            torch.testing.assert_close(model(**given).loss, wanted)
    assert on_row(seen, (14,))


def test_inside_itself_it_changes_nothing() -> None:
    model, given = build("bert", "classes"), batch("classes", (5, 9))
    wanted = results(model, given)
    with unpadded(model):
        hooks = hook_count(model)
        with unpadded(model) as why:
            assert why == "" and hook_count(model) == hooks
        agree(results(model, given), wanted)


def hook_count(model: nn.Module) -> int:
    """How many forward hooks the model has in all."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (DebertaV2Config(**TOKENS, **WIDE), "does not go through transformers' interface"),
        (Gemma2Config(**TOKENS, **WIDE, num_key_value_heads=2, head_dim=8), "'softcap'"),
        (ViTConfig(**{**WIDE, "image_size": 32, "patch_size": 8}), "reads no text with an attention mask"),
        (BartConfig(**TOKENS, d_model=32, decoder_layerdrop=0.1), "decoder_layerdrop"),
    ],
    ids=["deberta", "gemma2", "vit", "layerdrop"],
)
def test_models_that_stay_padded_say_why(config: PreTrainedConfig, told: str) -> None:
    model = AutoModel.from_config(config)
    with unpadded(model) as why:
        assert told in why and why.endswith(".")
        assert hook_count(model) == 0


def test_a_hook_on_a_block_is_told() -> None:
    model = build("bert", "classes")
    model.bert.encoder.layer[0].register_forward_hook(lambda *given: None)
    with unpadded(model) as why:
        assert why == "A hook on a block reads padded states."


def test_blocks_that_mix_sequences_are_found_by_the_probe() -> None:
    model = build("bert", "tokens").eval()
    surgery.insert(model.bert.encoder.layer[0].output, "mixing", Mixing())
    with unpadded(model) as why:
        assert "gives other numbers without padding" in why
    assert model.config._attn_implementation == "sdpa"


class Mixing(surgery.Inserted):
    """Adds the sequence's mean to every token: right on padded blocks alone."""

    def after(self, host: nn.Module, arguments: dict[str, Any], output: Any) -> Any:
        return output + output.mean(1, keepdim=True)
