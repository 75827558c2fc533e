"""Texts to token ids, and examples to padded batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from tunesmith.core.column import Row
from tunesmith.core.step import Batch

IGNORED = -100
"""The label of a position that carries no loss."""


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


def parts_batch(
    examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, fields: Mapping[str, torch.Tensor]
) -> Batch:
    """One padded batch of examples that are several sequences each (`parts`: windows, choices, two texts).

    The parts of all examples stand one after another: inputs [parts, time]; the field `owners` [parts] tells the
    example of each.
    """
    parts = [part for example in examples for part in example["parts"]]
    owners = torch.tensor([number for number, example in enumerate(examples) for _ in example["parts"]])
    rows = [example.get("row", position) for position, example in enumerate(examples)]
    cut = sum(bool(example.get("cut")) for example in examples)
    return Batch(pad(parts, tokenizer), {**fields, "owners": owners}, rows, cut)


def filled(lists: Sequence[Sequence[int]], width: int, fill: int) -> torch.Tensor:
    """Lists of numbers as one tensor [lists, width], padded on the right with `fill`."""
    return torch.tensor([[*one, *[fill] * (width - len(one))] for one in lists])


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every position, in float32: logits [batch, time, vocabulary], labels [batch, time].

    0 where the label is IGNORED. A decoder's logits tell of the next token: give logits[:, :-1] and labels[:, 1:].
    """
    flat = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return flat.view(labels.shape)  # [batch, time]


def batch_of(
    examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, fields: Mapping[str, torch.Tensor]
) -> Batch:
    """One padded batch with the given fields."""
    rows = [example.get("row", position) for position, example in enumerate(examples)]
    return Batch(pad(examples, tokenizer), fields, rows, sum(bool(example.get("cut")) for example in examples))
