"""Texts to token ids, and examples to padded batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, ModelError, raise_faults
from tunesmith.core.rows import line_of
from tunesmith.core.step import Batch

IGNORED = -100
"""The label of a position that carries no loss."""
SHOWN = 40
"""Characters of a text that a message quotes."""


def encode_texts(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int, keep_pair: bool = False
) -> list[dict[str, Any]]:
    """Encode the `text` of each row, with its `pair` where there is one, in at most `limit` tokens.

    A longer text is cut at its end (of a pair, the longer of the two), and the example's `cut` is True. With
    `keep_pair` the pair stays whole; one that leaves its text no token raises DataError. A tokenizer that would put
    nothing between two texts is helped: see `around`. The attention mask is left to `pad`.
    """
    texts = [row["text"] for row in rows]
    if not rows or "pair" not in rows[0]:
        return _encoded(texts, None, tokenizer, {"truncation": True, "max_length": limit})
    pairs = [row["pair"] for row in rows]
    if keep_pair:
        raise_unfit(unfit(rows, tokenizer, limit))
    if glues(tokenizer):
        return _delimited(texts, pairs, tokenizer, limit, keep_pair)
    truncation = "only_first" if keep_pair else "longest_first"
    return _encoded(texts, pairs, tokenizer, {"truncation": truncation, "max_length": limit})


def _encoded(
    texts: list[str], pairs: list[str] | None, tokenizer: PreTrainedTokenizerBase, shortening: Mapping[str, Any]
) -> list[dict[str, Any]]:
    # Without truncation first: only so can we see which texts lose something.
    whole = tokenizer(texts, pairs, add_special_tokens=True, return_attention_mask=False, verbose=False)
    cut = [len(ids) > shortening["max_length"] for ids in whole["input_ids"]]
    if any(cut):
        whole = tokenizer(texts, pairs, return_attention_mask=False, **shortening)
    names = list(whole)
    return [{**{name: whole[name][i] for name in names}, "cut": cut[i]} for i in range(len(texts))]


def encode_both_orders(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
    """Encode the two texts of each row twice, each of them first once: examples of two `parts`.

    Which order comes first is up to the texts alone, so that a row with its texts swapped gives the same example.
    """
    ordered = [sorted((row["text"], row["pair"])) for row in rows]
    turned = [{"text": one, "pair": other} for pair in ordered for one, other in (pair, pair[::-1])]
    encoded = encode_texts(turned, tokenizer, limit)
    return [
        {"parts": [one, other], "cut": one["cut"] or other["cut"]}
        for one, other in zip(encoded[::2], encoded[1::2], strict=True)
    ]


def glues(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts nothing between two texts that it is given together (GPT-2's kind)."""
    single: int = tokenizer.num_special_tokens_to_add(pair=False)
    return bool(tokenizer.num_special_tokens_to_add(pair=True) <= single)


def specials(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and behind a single text: lists of ids."""
    bare, whole = [tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True)]
    start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    return list(whole[:start]), list(whole[start + len(bare) :])


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], list[int]]:
    """What stands before, between and after two texts on a tokenizer that glues: lists of ids.

    Between: the end-of-text token, or a newline where there is none (ModelError where there is no newline either).
    After: what the tokenizer puts there, or else the end-of-text token, unless it pads too: the classifiers of
    decoders read the last token that is not the padding's, and would pass it over.
    """
    before, after = specials(tokenizer)
    end = tokenizer.eos_token_id
    between = [end] if end is not None else tokenizer("\n", add_special_tokens=False)["input_ids"]
    if not between:
        raise ModelError(
            "The tokenizer has neither an end-of-text token nor a newline to put between two texts.",
            hint="Set one and save it: tokenizer.eos_token = ...; tokenizer.save_pretrained(folder).",
        )
    if not after and end is not None and end != tokenizer.pad_token_id:
        after = [end]
    return before, between, after


def unfit(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[str]:
    """A sentence for each row whose `pair` leaves its `text` not one of `limit` tokens; none where all fit.

    Only pairs that are long enough to be in question are counted.
    """
    taken = sum(map(len, around(tokenizer))) if glues(tokenizer) else tokenizer.num_special_tokens_to_add(pair=True)
    room = limit - taken - 1
    # A token has a character at least; letters that a tokenizer takes apart have up to four pieces.
    asked = [row for row in rows if 4 * len(row["pair"].encode()) > room]
    if not asked:
        return []
    ids = tokenizer([row["pair"] for row in asked], add_special_tokens=False, verbose=False)["input_ids"]
    counts = [(row, len(one)) for row, one in zip(asked, ids, strict=True) if len(one) > room]
    return [
        f"{_place(row)}'{row['pair'][:SHOWN]}…' has {count} tokens, is not to be cut, and only {room} fit"
        for row, count in counts
    ]


def raise_unfit(faults: Sequence[str]) -> None:
    """Raise all of `unfit`'s sentences as one DataError; nothing where there are none."""
    hint = "Shorten them, leave these rows out, or set a greater task.max_length if the model can read more."
    raise_faults(DataError, "Some texts are longer than what the model reads:", faults, hint=hint)


def _delimited(
    texts: list[str], pairs: list[str], tokenizer: PreTrainedTokenizerBase, limit: int, keep_pair: bool
) -> list[dict[str, Any]]:
    before, between, after = around(tokenizer)
    room = limit - len(before) - len(between) - len(after)
    ids = [tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"] for some in (texts, pairs)]
    examples = []
    for first, second in zip(*ids, strict=True):
        kept = second if keep_pair else second[: max(room // 2, room - len(first))]
        joined = [*before, *first[: room - len(kept)], *between, *kept, *after]
        examples.append({"input_ids": joined, "cut": len(first) + len(second) > room})
    return examples


def _place(row: Row) -> str:
    return f"line {line_of(row)}: " if "line" in row else ""


def pad(examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Pad the token fields of examples on the right to the longest: each [batch, time]."""
    names = [name for name in tokenizer.model_input_names if name in examples[0]]
    lengths = np.array([len(example["input_ids"]) for example in examples])
    longest = int(lengths.max())
    fill = dict.fromkeys(names, 0) | {"input_ids": tokenizer.pad_token_id}
    inputs = {name: filled([example[name] for example in examples], longest, fill[name]) for name in names}
    inputs["attention_mask"] = torch.from_numpy((np.arange(longest) < lengths[:, None]).astype(np.int64))
    return inputs  # each [batch, time]


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
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    table = np.full((len(lists), width), fill, np.int64)
    table[np.arange(width) < lengths[:, None]] = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
    return torch.from_numpy(table)


def code_points(texts: Sequence[str]) -> torch.Tensor:
    """Texts as numbers, so that a batch can carry them to where it is decoded: [texts, longest], padded with -1."""
    found = torch.full((len(texts), max(map(len, texts), default=0)), -1, dtype=torch.int32)
    for row, text in zip(found, texts, strict=True):
        row[: len(text)] = torch.from_numpy(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.int32).copy())
    return found


def texts_of(points: torch.Tensor) -> list[str]:
    """The texts of `code_points` [texts, longest]."""
    rows = points.to(torch.int32).cpu().numpy()
    return [row[row >= 0].tobytes().decode("utf-32-le", "surrogatepass") for row in rows]


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
