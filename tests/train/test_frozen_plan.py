"""What of a batch is kept and what is new: by every real token, and what else the blocks' states depend on."""

from typing import Any

import pytest
import torch

from tests.train.half_frozen import BATCH, batch_of, close, inside, model_of, step
from tunesmith.train import frozen_plan


@pytest.mark.parametrize("trains", [0, 1])
def test_only_what_is_new_in_a_batch_is_computed(trains: int) -> None:
    model, batch = model_of("tiny-llama", trains), batch_of(*BATCH)  # its blocks get positions with every token
    changed = {name: value.clone() for name, value in batch.items()}
    changed["input_ids"][1, 4] = 3 if batch["input_ids"][1, 4] != 3 else 4
    changed["input_ids"][4, 0] = 3 if batch["input_ids"][4, 0] != 3 else 4
    expected = step(model, changed)
    with inside(model) as (report, counts):
        step(model, batch)
        close(step(model, changed), expected)
        close(step(model, changed), expected)
    assert counts[0].tokens == [32, 11 + 7]
    assert (report.computed, report.read, report.kept) == (8, 10, 8)


def test_a_text_at_other_places_is_another_text() -> None:
    # GPT-2's positions count from the start of the row, padding on the left or not.
    model, batch, left = model_of("tiny-gpt2", 1), batch_of(2, 6), batch_of(2, 6, left=True)
    left["input_ids"][0, 4:] = batch["input_ids"][0, :2]
    expected = step(model, left)
    with inside(model) as (report, _):
        step(model, batch)
        close(step(model, left), expected)
    assert torch.equal(left["input_ids"][1], batch["input_ids"][1])
    assert report.read == 1


def test_types_of_tokens_are_part_of_the_text() -> None:
    model, batch = model_of("tiny-bert"), batch_of(4, 6)
    pairs = batch | {"token_type_ids": (torch.arange(6) > 1).long().expand(2, 6)}
    expected = step(model, pairs)
    with inside(model) as (report, _):
        step(model, batch)
        close(step(model, pairs), expected)
        assert report.read == 0
        step(model, pairs)
        assert report.read == 2


def test_states_of_another_precision_are_others() -> None:
    model, batch = model_of("tiny-bert"), batch_of(*BATCH)
    expected = step(model, batch)
    with inside(model) as (report, _):
        with torch.autocast("cpu", torch.bfloat16):
            first, again = step(model, batch), step(model, batch)
        close(first, again)
        assert report.read == 6
        close(step(model, batch), expected)
    assert report.read == 6


PLAIN = {
    "input_ids": torch.tensor([[5, 6, 7, 0], [5, 6, 7, 8]]),
    "attention_mask": torch.tensor([[1, 1, 1, 0], [1] * 4]),
}


def test_padding_on_the_right_is_no_part_of_a_text() -> None:
    short, long = frozen_plan.keys(PLAIN, b"")
    alone = frozen_plan.keys({"input_ids": torch.tensor([[5, 6, 7]])}, b"")
    other = frozen_plan.keys({name: value.clone().fill_(1) for name, value in PLAIN.items()}, b"")
    assert [short] == alone and len({short, long, *other}) == 3
    assert frozen_plan.keys(PLAIN, b"active")[0] != short


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"output_hidden_states": True}, "'output_hidden_states'"),
        ({"use_cache": True}, "'use_cache'"),
        ({"past_key_values": object()}, "'past_key_values'"),
        ({"attention_mask": torch.ones(2, 1, 4, 4)}, "mask"),
        ({"input_ids": torch.zeros(2, 4, 8)[0, 0], "token_type_ids": torch.zeros(2, 4)}, "no batch of token ids"),
        ({"token_type_ids": torch.zeros(2, 3)}, "no batch of token ids"),
    ],
)
def test_calls_that_have_no_keys(changed: dict[str, Any], why: str) -> None:
    found = frozen_plan.keys({**PLAIN, **changed}, b"")
    assert isinstance(found, str) and why in found


@pytest.mark.parametrize("silent", [{"labels": torch.ones(2)}, {"use_cache": False}, {"return_dict": True}])
def test_what_does_not_change_the_states_does_not_change_the_keys(silent: dict[str, Any]) -> None:
    assert frozen_plan.keys({**PLAIN, **silent}, b"") == frozen_plan.keys(PLAIN, b"")
