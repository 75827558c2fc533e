"""Texts to token ids, and examples to padded batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tunesmith.core.column import Row
from tunesmith.core.step import Batch


def encode_texts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
    """Encode the `text` of each row, with its `pair` where there is one, in at most `limit` tokens.

    A longer text is cut at its end (of a pair, the longer of the two), and the example's `cut` is True. The attention
    mask is left to `pad`.
    """
    texts = [row["text"] for row in rows]
    pairs = [row["pair"] for row in rows] if rows and "pair" in rows[0] else None
    # Without truncation first: only so can we see which texts lose something.
    whole = tokenizer(texts, pairs, add_special_tokens=True, return_attention_mask=False, verbose=False)
    cut = [len(ids) > limit for ids in whole["input_ids"]]
    if any(cut):
        whole = tokenizer(texts, pairs, truncation=True, max_length=limit, return_attention_mask=False)
    names = list(whole)
    return [{**{name: whole[name][i] for name in names}, "cut": cut[i]} for i in range(len(rows))]


def pad(examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Pad the token fields of examples on the right to the longest: each [batch, time]."""
    names = [name for name in tokenizer.model_input_names if name in examples[0]]
    longest = max(len(example["input_ids"]) for example in examples)
    fill = dict.fromkeys(names, 0) | {"input_ids": tokenizer.pad_token_id}
    inputs = {
        name: torch.tensor([[*example[name], *[fill[name]] * (longest - len(example[name]))] for example in examples])
        for name in names
    }
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    inputs["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()  # [batch, time]
    return inputs


def batch_of(
    examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, fields: Mapping[str, torch.Tensor]
) -> Batch:
    """One padded batch with the given fields."""
    rows = [example.get("row", position) for position, example in enumerate(examples)]
    return Batch(pad(examples, tokenizer), fields, rows, sum(bool(example["cut"]) for example in examples))
