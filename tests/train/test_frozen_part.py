"""Which blocks are frozen, whether they are still the same, and what stops their states from being kept."""

import logging
from functools import partial

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.train.half_frozen import BATCH, batch_of, close, config_of, inside, model_of, step
from tunesmith.core import anatomy, registry, surgery
from tunesmith.models.builtin import VOCABULARY
from tunesmith.train import frozen_part
from tunesmith.train.frozen import frozen


def test_weights_that_change_are_noticed() -> None:
    model, batch = model_of("tiny-bert", trains=1), batch_of(*BATCH)
    with inside(model) as (report, counts):
        step(model, batch)
        step(model, batch)
        with torch.no_grad():
            model.bert.encoder.layer[0].output.dense.weight.mul_(1.5)
        found = [step(model, batch), step(model, batch)]
    assert len(counts[0].tokens) == 2 and report.kept == 6
    for one in found:
        close(one, step(model, batch))


def test_weights_that_change_in_every_step_are_not_worth_it(caplog: pytest.LogCaptureFixture) -> None:
    model, batch = model_of("tiny-bert", trains=1), batch_of(*BATCH)
    with caplog.at_level(logging.INFO, "tunesmith"), inside(model) as (report, _):
        for _ in range(6):
            with torch.no_grad():
                model.bert.encoder.layer[0].output.dense.weight.mul_(1.5)
            step(model, batch)
    assert report.why == "their weights keep changing" and report.read == 0
    assert sum("keep changing" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("opens", [False, True])
def test_freezing_more_and_more_is_worth_it_and_opening_is_not(opens: bool) -> None:
    config = config_of("tiny-bert", 0.0)
    config.num_hidden_layers = 6
    torch.manual_seed(0)
    model, batch = AutoModelForSequenceClassification.from_config(config), batch_of(*BATCH)
    surgery.freeze(model.bert)
    blocks = list(model.bert.encoder.layer)
    with inside(model) as (report, _):
        for count in range(1, 6):
            for number, block in enumerate(blocks):
                (surgery.freeze if number < (6 - count if opens else count) else surgery.thaw)(block)
            step(model, batch)
        assert report.blocks == (1 if opens else 5) and report.read == 0
        found = step(model, batch)
    assert report.why == ("their weights keep changing" if opens else "")
    assert report.read == (0 if opens else 6)
    close(found, step(model, batch))


def test_thawing_and_freezing_in_the_middle() -> None:
    model, batch = model_of("tiny-gpt2"), batch_of(*BATCH)
    upper = anatomy.blocks(model)["transformer.h.1"]
    with inside(model) as (report, counts):
        for change in (surgery.freeze, surgery.thaw, surgery.freeze):
            change(upper)
            found = [step(model, batch), step(model, batch)]
            assert report.blocks == (1 if change is surgery.thaw else 2)
            with torch.no_grad():
                upper.mlp.c_fc.weight.add_(0.01)
        surgery.thaw(model.transformer.wte)
        below = step(model, batch)
        assert report.blocks == 0
    assert [len(count.tokens) for count in counts] == [4, 5]
    assert "transformer.wte.weight" in below
    with torch.no_grad():
        upper.mlp.c_fc.weight.sub_(0.01)
    model.transformer.wte.requires_grad_(False)
    for one in found:
        close(one, step(model, batch))


def test_calls_that_need_the_blocks_get_them() -> None:
    model = model_of("tiny-bert", trains=1)
    plain = {name: value for name, value in batch_of(*BATCH).items() if name != "labels"}
    expected = model(**plain, output_hidden_states=True).hidden_states
    with inside(model) as (report, _):
        for _ in range(2):
            model(**plain)
        found = model(**plain, output_hidden_states=True).hidden_states
    assert report.read == 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_generation_with_a_cache_is_left_alone() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of("tiny-llama", 0.0)).eval()
    surgery.freeze(model)
    prompt = {name: value for name, value in batch_of(4, 4).items() if name != "labels"}
    generate = partial(model.generate, **prompt, max_new_tokens=5, do_sample=False, use_cache=True, pad_token_id=0)
    expected = generate()
    with inside(model) as (report, _):
        model(**prompt)
        assert torch.equal(generate(), expected)
        assert torch.equal(generate(), expected)
    assert report.read == 0


def test_somebody_elses_hook_in_the_frozen_part_is_called_every_time() -> None:
    model, batch, seen = model_of("tiny-bert", trains=1), batch_of(*BATCH), []
    dense = anatomy.blocks(model)["bert.encoder.layer.0"].output.dense
    dense.register_forward_hook(lambda *_: seen.append(1))
    with inside(model) as (report, _):
        before = len(seen)
        step(model, batch)
        step(model, batch)
    assert len(seen) >= before + 2
    assert "the hook tests.train.test_frozen" in report.why


def test_what_was_put_in_below_is_kept_by_whether_it_acts() -> None:
    model, batch = model_of("tiny-bert"), batch_of(*BATCH)
    registry.build("methods", {"name": "lora"}).modify(model, torch.Generator())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    surgery.freeze(model.bert)
    expected = step(model, batch)
    with surgery.switched_off(model):
        without = step(model, batch)
    assert not torch.allclose(expected[""], without[""], atol=1e-4)
    with inside(model) as (report, _):
        for _ in range(2):
            close(step(model, batch), expected)
            with surgery.switched_off(model):
                close(step(model, batch), without)
    assert report.read == report.computed == 12


def test_blocks_that_hand_on_more_than_one_tensor_run_every_time_without_dropout() -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config_of("tiny-t5", 0.3)).train()
    registry.build("methods", {"name": "top_blocks", "count": 1}).modify(model, torch.Generator())
    batch = batch_of(3, 6)
    batch["input_ids"][torch.arange(2), torch.tensor([2, 5])] = 2  # its classifier reads the end of the text
    lower, upper = (anatomy.blocks(model)[f"transformer.{part}.block.1"] for part in ("encoder", "decoder"))
    modes: list[tuple[bool, bool]] = []
    lower.register_forward_hook(lambda *_: modes.append((lower.training, upper.training)))
    with frozen(model, 8) as report:
        step(model, batch)
    assert modes[-1] == (False, True)
    assert (report.blocks, report.of, report.kept) == (2, 2, 0) and "more than one tensor" in report.why


def test_the_parts_of_a_backbone_are_found_in_the_order_of_their_calls() -> None:
    for family, maker in (("tiny-bert", "embeddings"), ("tiny-gpt2", "drop"), ("tiny-llama", "embed_tokens")):
        backbone = anatomy.backbone(model_of(family))
        found = frozen_part.find(backbone, {"input_ids": torch.tensor([[5, 6, 7]])})
        assert isinstance(found, frozen_part.Lower)
        assert found.maker is backbone.get_submodule(maker) and found.linked == ""
        assert found.blocks == list(anatomy.blocks(backbone).values())
        assert found.around[0] is backbone and found.depth() == 2
        assert all(module.training for module in backbone.modules())


def test_blocks_that_share_their_weights_are_not_told_apart() -> None:
    config = AlbertConfig(
        vocab_size=VOCABULARY, embedding_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    found = frozen_part.find(AlbertModel(config), {"input_ids": torch.tensor([[5, 6, 7]])})
    assert isinstance(found, str) and "once each" in found


def test_a_module_that_is_replaced_is_noticed() -> None:
    model, batch = model_of("tiny-bert"), batch_of(*BATCH)
    dense = model.bert.encoder.layer[0].output
    with inside(model) as (report, _):
        step(model, batch)
        dense.dense = nn.Linear(64, 32)
        surgery.freeze(dense)
        found = step(model, batch)
    assert report.read == 0
    close(step(model, batch), found)
