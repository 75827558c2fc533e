"""Batches of text generation by hand: what follows each position, pairs, packed rows, prompts, sums."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tunesmith.core.step import Batch
from tunesmith.core.tokens import IGNORED
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import generate_sequences as sequences

TOKENIZER = tiny_tokenizer()
X = IGNORED
FIRST = {"input_ids": [1, 7, 8, 2], "loss": [False, False, True, True], "cut": False}
SECOND = {"input_ids": [1, 9, 2], "loss": [False, True, True], "cut": True}


def test_targets_are_what_follows() -> None:
    batch = sequences.batch([FIRST, SECOND], TOKENIZER, None)
    assert batch.inputs["input_ids"].tolist() == [[1, 7, 8, 2], [1, 9, 2, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.fields["targets"].tolist() == [[X, 8, 2, X], [9, 2, X, X]]
    assert batch.fields["owners"].tolist() == [0, 1] and batch.cut == 1
    assert set(batch.fields) == {"targets", "owners"}


def test_the_end_token_may_pad_and_still_carries_loss() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    batch = sequences.batch([FIRST, SECOND], tokenizer, None)
    assert batch.inputs["input_ids"].tolist()[1] == [1, 9, 2, 2]
    assert batch.fields["targets"].tolist() == [[X, 8, 2, X], [9, 2, X, X]]
    assert batch.inputs["attention_mask"].tolist()[1] == [1, 1, 1, 0]


def test_the_parts_of_a_text_are_sequences_of_their_own() -> None:
    batch = sequences.batch([{"parts": [FIRST, SECOND], "cut": False}, SECOND], TOKENIZER, None)
    assert batch.fields["owners"].tolist() == [0, 0, 1] and len(batch.rows) == 2
    assert batch.fields["targets"].tolist() == [[X, 8, 2, X], [9, 2, X, X], [9, 2, X, X]]


def test_nothing_is_told_across_the_bounds_of_packed_examples() -> None:
    # A first token that would carry loss does not: nothing of its own example stands before it.
    odd = {**SECOND, "loss": [True, True, True]}
    batch = sequences.batch(
        [{"members": [FIRST, odd], "cut": True}, {"members": [SECOND], "cut": True}], TOKENIZER, None
    )
    assert batch.inputs["input_ids"].tolist() == [[1, 7, 8, 2, 1, 9, 2], [1, 9, 2, 0, 0, 0, 0]]
    assert batch.fields["targets"].tolist() == [[X, 8, 2, X, 9, 2, X], [9, 2, X, X, X, X, X]]
    assert batch.fields["owners"].tolist() == [0, 1] and batch.cut == 2
    shown = sequences.shown({"members": [FIRST, SECOND]}, TOKENIZER)
    assert [one.loss for one in shown] == [FIRST["loss"], SECOND["loss"]]


def test_what_is_written_is_read_one_place_later() -> None:
    pairs = [
        {"input_ids": [7, 2], "labels": [8, 9, 2], "cut": False},
        {"input_ids": [5, 6, 2], "labels": [], "cut": False},
    ]
    batch = sequences.batch(pairs, TOKENIZER, 0)
    assert batch.inputs["input_ids"].tolist() == [[7, 2, 0], [5, 6, 2]]
    assert batch.inputs["decoder_input_ids"].tolist() == [[0, 8, 9], [0, 0, 0]]
    assert batch.fields["targets"].tolist() == [[8, 9, 2], [X, X, X]]
    asked = sequences.batch(pairs[1:], TOKENIZER, 3)
    assert asked.inputs["decoder_input_ids"].tolist() == [[3]] and "targets" not in asked.fields
    assert [one.name for one in sequences.shown(pairs[0], TOKENIZER)] == ["input", "answer"]
    assert [one.name for one in sequences.shown(pairs[1], TOKENIZER)] == ["input"]


def test_prompts_of_those_that_are_to_be_answered() -> None:
    base = {**FIRST, "room": 4, "short": False}
    examples: list[dict[str, Any]] = [
        {**base, "prompt": [1, 7], "chosen": True},
        {**base, "prompt": [1, 7, 7, 7]},
        {**base, "prompt": [1, 7, 7], "asked": True, "short": True, "size": (2, 9)},
    ]
    fields = sequences.batch(examples, TOKENIZER, None).fields
    assert fields["places"].tolist() == [0, 2] and fields["rooms"].tolist() == [4, 4]
    assert fields["prompts"].tolist() == [[1, 7, 0], [1, 7, 7]] and fields["lengths"].tolist() == [2, 3]
    assert fields["cuts"].tolist() == [False, False, True]
    assert fields["sizes"].tolist() == [[0, 0], [0, 0], [2, 9]]
    assert "places" not in sequences.batch(examples[1:2], TOKENIZER, None).fields


def test_sums_and_lines_by_hand() -> None:
    # Two tokens of equal probability: each position costs log 2; the first row has two parts.
    batch = Batch({}, {"targets": torch.tensor([[0, X], [1, 1], [X, X]]), "owners": torch.tensor([0, 0, 1])}, [0, 1])
    step: Any = SimpleNamespace(batch=batch, outputs=SimpleNamespace(logits=torch.zeros(3, 2, 2)))
    sums = sequences.sums(step)
    assert sums.tolist() == [[pytest.approx(3 * math.log(2), rel=1e-6), 3.0], [0.0, 0.0]]
    answers, lines = sequences.answers(batch, sums, {1: "oak"})
    assert lines == [
        {"prediction": None, "perplexity": 2.0, "tokens": 3, "cut": False},
        {"prediction": "oak", "perplexity": None, "cut": False},
    ]
    assert answers.shape == (2, 5) and answers[1].tolist() == ["oak", 0.0, 0.0, 0, 0]
    assert np.array_equal(sequences.sums(SimpleNamespace(batch=Batch({}, {}, [0]))), [[0.0, 0.0]])  # type: ignore[arg-type]


def test_lines_tell_losses_again() -> None:
    lines = [
        {"prediction": "oak", "perplexity": 2.0, "tokens": 3, "cut": False},
        {"prediction": None, "perplexity": None, "cut": False},
        {"prediction": None, "perplexity": None, "tokens": 2, "cut": False},
    ]
    found = sequences.reread(lines)
    assert found is not None
    assert found[:, 0].tolist() == ["oak", None, None] and found[:, 2].tolist() == [3, 0, 2]
    assert found[0, 1] == pytest.approx(3 * math.log(2)) and found[1, 1] == 0 and math.isnan(found[2, 1])
    assert sequences.reread([{"prediction": None, "perplexity": 2.0, "cut": False}]) is None
