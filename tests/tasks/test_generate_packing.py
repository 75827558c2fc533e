"""Packing: bins by first-fit decreasing, masks by hand, outputs and gradients of packed examples as of single ones."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, MambaConfig, MistralConfig

from tests import toy
from tunesmith.core.seeding import generator
from tunesmith.core.step import Step
from tunesmith.methods.prefix import Prefix
from tunesmith.methods.prompt import Prompt
from tunesmith.models.builtin import tiny_configs
from tunesmith.tasks.generate_packing import CLOSED, bins, keeps_apart, packed

EXAMPLES = [[[1, 9, 8, 7, 2], [1, 5, 2], [1, 6, 6, 7, 30, 31, 2]], [[1, 40, 41, 2]]]
"""Two rows: three examples, and one, which is padded."""


def decoder(name: str, attention: str = "sdpa") -> Any:
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(tiny_configs()[name], attn_implementation=attention).eval()


def first_fit(sizes: list[int], limit: int) -> list[list[int]]:
    """The definition, bin by bin."""
    found: list[list[int]] = []
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        room = next((one for one in found if sum(sizes[n] for n in one) + sizes[number] <= limit), None)
        found.append([number]) if room is None else room.append(number)
    return found


def test_bins_by_hand() -> None:
    # The 7 opens a bin, the 5 another, the 4 goes beside the 5, the 3s beside the 7 and into a third.
    assert bins([3, 7, 4, 5, 3], 10) == [[1, 0], [3, 2], [4]]
    assert bins([10, 10], 10) == [[0], [1]]
    assert bins([], 10) == []


@pytest.mark.parametrize("seed", range(5))
def test_bins_are_those_of_first_fit_decreasing(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 40) for _ in range(draw.randint(1, 120))]
    found = bins(sizes, 40)
    assert found == first_fit(sizes, 40)
    assert sorted(number for one in found for number in one) == list(range(len(sizes)))
    assert max(sum(sizes[number] for number in one) for one in found) <= 40


def test_an_example_larger_than_a_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens, more than a bin's 10"):
        bins([3, 11], 10)


def test_masks_and_positions_by_hand() -> None:
    inputs = packed([[[7, 8], [9]], [[5]]], 0)
    assert inputs["input_ids"].tolist() == [[7, 8, 9], [5, 0, 0]]
    assert inputs["position_ids"].tolist() == [[0, 1, 0], [0, 0, 0]]
    # Each sees its own example up to itself; padding sees itself alone.
    opened = [[[1, 0, 0], [1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]]
    assert (inputs["attention_mask"][:, 0] == 0).long().tolist() == opened
    assert set(inputs["attention_mask"].unique().tolist()) == {CLOSED, 0.0}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_every_token_has_the_outputs_of_its_example_alone(name: str, attention: str) -> None:
    model = decoder(name, attention)
    together = model(**packed(EXAMPLES, 0)).logits
    for row, examples in zip(together, EXAMPLES, strict=True):
        at = 0
        for ids in examples:
            alone = model(input_ids=torch.tensor([ids])).logits[0]
            assert torch.allclose(row[at : at + len(ids)], alone, atol=1e-5)
            at += len(ids)


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_changing_an_example_changes_nothing_beside_it(name: str) -> None:
    model = decoder(name)
    before = model(**packed(EXAMPLES, 0)).logits[0]
    changed = [[EXAMPLES[0][0], [1, 77, 2], EXAMPLES[0][2]], EXAMPLES[1]]
    after = model(**packed(changed, 0)).logits[0]
    assert torch.equal(before[:5], after[:5]) and torch.equal(before[8:], after[8:])
    assert not torch.allclose(before[6:8], after[6:8])


def losses(toyed: Any) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Summed loss, targets and gradients of a whole training split."""
    task, model = toyed.recipe.task, toyed.training.model.eval()
    rows = toyed.batches.rows[: len(toyed.batches.rows)]
    listed = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    batch = task.collate(task.encode(listed, toyed.backbone.tokenizer, 128), toyed.backbone.tokenizer)
    loss = task.loss(Step(model, task, batch))
    loss.backward()
    grown = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return loss.item(), task.targets(batch), grown


@pytest.mark.parametrize("method", ["full", "lora", {"name": "prefix", "length": 3}, {"name": "prompt", "length": 3}])
@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_the_loss_and_gradients_are_those_of_the_examples_one_by_one(name: str, method: Any) -> None:
    values = {"model": f"builtin:{name}", "method": method}
    (loss, targets, grown), (expected, count, single) = (
        losses(toy.prepared({**values, "task": {"name": "generate", "pack": pack}})) for pack in (True, False)
    )
    assert targets == count
    assert loss == pytest.approx(expected, rel=1e-5)
    assert grown.keys() == single.keys()
    for path, gradient in single.items():
        assert torch.allclose(grown[path], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())), path


@pytest.mark.parametrize("method", [Prefix(length=2), Prompt(length=2)])
def test_virtual_tokens_belong_to_every_example(method: Any) -> None:
    model = decoder("tiny-llama")
    method.modify(model, generator(0, "m"))
    together = model(**packed(EXAMPLES, 0)).logits[0]
    alone = model(input_ids=torch.tensor([EXAMPLES[0][2]])).logits[0]
    assert torch.allclose(together[8:], alone, atol=1e-5)


def test_backbones_that_keep_examples_apart() -> None:
    assert keeps_apart(decoder("tiny-gpt2"), 128) and keeps_apart(decoder("tiny-llama"), 128)


def test_backbones_that_do_not() -> None:
    tokens = {"vocab_size": 259, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    # One has a state that runs on, one tells places by its mask, one looks back eight tokens.
    mamba = MambaConfig(**tokens, hidden_size=16, num_hidden_layers=1, state_size=4)
    bloom = BloomConfig(**tokens, hidden_size=16, n_layer=1, n_head=2)
    mistral = MistralConfig(
        **tokens, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=16, sliding_window=8,
    )  # fmt: skip
    for config in (mamba, bloom):
        assert not keeps_apart(AutoModelForCausalLM.from_config(config), 128)
    model = AutoModelForCausalLM.from_config(mistral).train()
    assert not keeps_apart(model, 128) and keeps_apart(model, 8)
    assert model.training
