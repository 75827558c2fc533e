"""Texts to token ids, and examples to padded batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tunesmith.core.tokens import IGNORED, batch_of, encode_texts, filled, pad, parts_batch, token_losses
from tunesmith.models.builtin import find, tiny_tokenizer
from tunesmith.models.load import load_tokenizer


def shown(rows: list[dict[str, Any]], limit: int = 128) -> list[tuple[str, bool]]:
    tokenizer = tiny_tokenizer()
    return [(tokenizer.decode(one["input_ids"]), one["cut"]) for one in encode_texts(rows, tokenizer, limit)]


def test_texts_and_pairs() -> None:
    assert shown([{"text": "ab"}, {"text": "é"}]) == [("<s>ab</s>", False), ("<s>é</s>", False)]
    assert shown([{"text": "ab", "pair": "cd"}]) == [("<s>ab</s>cd</s>", False)]


def test_long_texts_are_cut_at_their_end_and_told() -> None:
    assert shown([{"text": "abcdef"}, {"text": "abcd"}, {"text": "x"}], limit=6) == [
        ("<s>abcd</s>", True),
        ("<s>abcd</s>", False),
        ("<s>x</s>", False),
    ]


def test_of_a_pair_the_longer_text_is_cut() -> None:
    assert shown([{"text": "abcdef", "pair": "xy"}], limit=8) == [("<s>abc</s>xy</s>", True)]
    assert shown([{"text": "ab", "pair": "uvwxyz"}], limit=8) == [("<s>ab</s>uvw</s>", True)]


def test_padding_by_hand() -> None:
    inputs = pad([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}], tiny_tokenizer())
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_padding_token_within_a_text_is_seen() -> None:
    # GPT-2's kind pads with a token that a text may hold: the mask follows the length, not the token.
    inputs = pad([{"input_ids": [5, 0, 7]}, {"input_ids": [0]}], tiny_tokenizer())
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_batch_knows_its_rows_and_its_cuts() -> None:
    examples = [{"input_ids": [5], "cut": True, "row": 9}, {"input_ids": [5], "cut": False, "row": 4}]
    batch = batch_of(examples, tiny_tokenizer(), {"targets": torch.tensor([1, 0])})
    assert (list(batch.rows), batch.cut, batch.fields["targets"].tolist()) == ([9, 4], 1, [1, 0])
    assert "row" not in batch.inputs and "cut" not in batch.inputs


@pytest.mark.parametrize("pair", [False, True])
def test_batches_are_those_of_the_tokenizer_itself(pair: bool) -> None:
    # The reference: the tokenizer's own padding and truncation, here of BERT's kind, with segment numbers for pairs.
    tokenizer = load_tokenizer(str(find("minilm")))
    texts = ["A short one.", "One that is a good deal longer than the limit allows it to be, so that it is cut.", "x"]
    pairs = (
        ["And what is said of it.", "y", "Something longer again, though not as long as all that."] if pair else None
    )
    rows = [{"text": text, **({"pair": pairs[n]} if pairs else {})} for n, text in enumerate(texts)]
    found = pad(encode_texts(rows, tokenizer, 16), tokenizer)
    expected = tokenizer(texts, pairs, padding=True, truncation=True, max_length=16, return_tensors="pt")
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_several_sequences_a_row_share_a_batch() -> None:
    tokenizer = tiny_tokenizer()
    encoded = encode_texts([{"text": text} for text in ("a", "bcd", "ef")], tokenizer, 128)
    examples = [{"parts": encoded[:2], "row": 7}, {"parts": encoded[2:], "row": 9, "cut": True}]
    batch = parts_batch(examples, tokenizer, {"targets": torch.tensor([1, 0])})
    assert batch.fields["owners"].tolist() == [0, 0, 1]
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [3, 5, 4]
    assert (list(batch.rows), batch.cut) == ([7, 9], 1)


def test_losses_of_tokens_by_hand() -> None:
    # Two classes at equal odds: log 2; logits (log 3, 0) for the first class: log(4/3). The ignored position: 0.
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [5.0, 1.0]]])
    losses = token_losses(logits, torch.tensor([[1, 0, IGNORED]]))
    assert losses.tolist() == [pytest.approx([math.log(2), math.log(4 / 3), 0.0])]


def test_lists_are_filled_up() -> None:
    assert filled([[1], [2, 3]], 3, -1).tolist() == [[1, -1, -1], [2, 3, -1]]
