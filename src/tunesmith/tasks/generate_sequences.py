"""Examples of text generation as batches, for decoders (packed or not) and encoder-decoders, and their summed losses.

An example is one sequence, or several: the `parts` of a text, or the `members` of a packed row. A decoder's have
`input_ids` and `loss`, an encoder-decoder's `input_ids` and `labels`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tunesmith.core.column import Row
from tunesmith.core.panel import Tokens
from tunesmith.core.step import Batch, Step
from tunesmith.core.tokens import IGNORED, filled, pad
from tunesmith.core.words import word_loss, word_losses
from tunesmith.tasks import generate_packing as packing
from tunesmith.tasks.blocks import exponential
from tunesmith.tasks.generate_lessons import Example

Examples = Sequence[Mapping[str, Any]]
PARTS = 8
"""Most sequences of one long text that are measured at once."""


def of(example: Mapping[str, Any]) -> list[Example]:
    """The sequences of an example."""
    return list(example.get("members") or example.get("parts") or [example])


def shown(example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
    """Every sequence token by token, with what carries loss; of an encoder-decoder what it reads and what it writes."""
    found = []
    for part in of(example):
        words = tokenizer.convert_ids_to_tokens(part["input_ids"])
        found.append(Tokens("input", words, part.get("loss", [False] * len(words))))
        if part.get("labels"):
            words = tokenizer.convert_ids_to_tokens(part["labels"])
            found.append(Tokens("answer", words, [True] * len(words)))
    return found


def batch(examples: Examples, tokenizer: PreTrainedTokenizerBase, start: int | None) -> Batch:
    """One padded batch; `start` is what an encoder-decoder starts to write with, None for decoders.

    Fields: `targets` [sequences, time], the id to tell at each position, IGNORED where nothing is learned (no such
    field where nothing is anywhere); `owners` [sequences], the example of each sequence; those of `asked`.
    """
    if start is not None:
        inputs, targets = _pairs(examples, tokenizer, start)
    elif "members" in examples[0]:
        inputs, targets = _packed(examples, tokenizer)
    else:
        inputs, targets = _plain(examples, tokenizer)
    fields = {"owners": _owners(examples), **asked(examples)}
    if (targets != IGNORED).any():
        fields["targets"] = targets
    rows = [example.get("row", place) for place, example in enumerate(examples)]
    return Batch(inputs, fields, rows, sum(bool(example.get("cut")) for example in examples))


def asked(examples: Examples) -> dict[str, Tensor]:
    """Which examples are to be answered: their `places` [answers], `prompts` [answers, time], padded on the right, with
    their `lengths` and the `rooms` of their answers [answers], or, where they are answered already, what was `said`
    [answers, time], padded with -1; of every example `cuts` and `sizes`, words and bytes [examples, 2]. Nothing where
    none was encoded for an answer, as in training.
    """
    if "prompt" not in examples[0]:
        return {}
    wanted = list(map(wants, examples))
    cuts = [example["cut"] or (asks and example["short"]) for asks, example in zip(wanted, examples, strict=True)]
    fields = {
        "cuts": torch.tensor(cuts),
        "sizes": torch.tensor([example.get("size", (0, 0)) for example in examples]),
    }
    places = [place for place, asks in enumerate(wanted) if asks]
    if not places:
        return fields
    fields["places"] = torch.tensor(places)
    if "said" in examples[0]:
        said = [examples[place]["said"] for place in places]
        return {**fields, "said": filled(said, max(map(len, said)), -1)}
    prompts = [examples[place]["prompt"] for place in places]
    lengths = [len(prompt) for prompt in prompts]
    return {
        **fields,
        "prompts": filled(prompts, max(lengths), 0),
        "lengths": torch.tensor(lengths),
        "rooms": torch.tensor([examples[place]["room"] for place in places]),
    }


def wants(example: Mapping[str, Any]) -> bool:
    """Whether an example is to be answered."""
    return "prompt" in example and bool(example.get("asked") or example.get("chosen"))


def losses(step: Step) -> Tensor:
    """The summed loss of each sequence [sequences], in float32, without gradients.

    The parts of one long text go through the model a few at a time: what it computes of them need not fit in memory
    together.
    """
    targets = step.batch.fields["targets"]
    if len(step.batch.rows) > 1 or len(targets) <= PARTS:
        return word_losses(step, targets).sum(dim=-1)
    found = []
    for at in range(0, len(targets), PARTS):
        inputs = {name: tensor[at : at + PARTS] for name, tensor in step.batch.inputs.items()}
        part = replace(step, batch=replace(step.batch, inputs=inputs), kept={})
        found.append(word_losses(part, targets[at : at + PARTS]).sum(dim=-1))
    return torch.cat(found)


def loss(step: Step) -> Tensor:
    """The summed loss of the batch: a scalar, with gradients where they are computed."""
    return word_loss(step, step.batch.fields["targets"]) if torch.is_grad_enabled() else losses(step).sum()


def sums(step: Step) -> np.ndarray:
    """Of each example, over its sequences: loss in nats, and positions that carry it [examples, 2]."""
    fields = step.batch.fields
    found = np.zeros((len(step.batch.rows), 2))
    if "targets" not in fields:
        return found
    targets, owners = fields["targets"], fields["owners"].cpu().numpy()
    np.add.at(found[:, 0], owners, losses(step).double().cpu().numpy())
    np.add.at(found[:, 1], owners, (targets != IGNORED).double().sum(dim=-1).cpu().numpy())
    return found


def answers(batch: Batch, sums: np.ndarray, said: Mapping[int, str]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """What was said (None where nothing was asked), loss, positions, words and bytes of each example [examples, 5], and
    its line: the answer, its perplexity, and whether it was cut.
    """
    count = len(batch.rows)
    sizes = batch.fields["sizes"].tolist() if "sizes" in batch.fields else [[0, 0]] * count
    cuts = batch.fields["cuts"].tolist() if "cuts" in batch.fields else [False] * count
    found, lines = np.empty((count, 5), dtype=object), []
    for place, (nats, learned) in enumerate(sums.tolist()):
        found[place] = [said.get(place), nats, learned, *sizes[place]]
        value = exponential(nats, learned)
        shown = round(value, 4) if math.isfinite(value) else None
        counted = {"tokens": int(learned)} if learned else {}
        lines.append({"prediction": said.get(place), "perplexity": shown, **counted, "cut": cuts[place]})
    return found, lines


def reread(lines: Sequence[Row]) -> np.ndarray | None:
    """What was said, losses and positions of lines [rows, 5], NaN for words and bytes, which they do not tell; None
    where they tell no positions either.
    """
    found = np.empty((len(lines), 5), dtype=object)
    for place, line in enumerate(lines):
        if line["perplexity"] is not None and "tokens" not in line:
            return None
        learned = float(line.get("tokens", 0))
        nats = math.nan if learned and line["perplexity"] is None else learned * math.log(line["perplexity"] or 1)
        found[place] = [line["prediction"], nats, learned, math.nan, math.nan]
    return found


def _plain(examples: Examples, tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, Tensor], Tensor]:
    parts = [part for example in examples for part in of(example)]
    inputs = pad(parts, tokenizer)
    return inputs, filled([_following([part]) for part in parts], inputs["input_ids"].shape[1], IGNORED)


def _packed(examples: Examples, tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, Tensor], Tensor]:
    rows = [[member["input_ids"] for member in example["members"]] for example in examples]
    inputs = packing.packed(rows, _padding(tokenizer))
    width = inputs["input_ids"].shape[1]
    return inputs, filled([_following(example["members"]) for example in examples], width, IGNORED)


def _pairs(examples: Examples, tokenizer: PreTrainedTokenizerBase, start: int) -> tuple[dict[str, Tensor], Tensor]:
    labels = [list(example["labels"]) for example in examples]
    width = max(1, max(map(len, labels)))
    # What is written is read one place later: the start first, the last id never.
    begun = filled([[start, *one[:-1]] for one in labels], width, _padding(tokenizer))
    return {**pad(examples, tokenizer), "decoder_input_ids": begun}, filled(labels, width, IGNORED)


def _owners(examples: Examples) -> Tensor:
    # A packed row is one sequence to the model.
    counts = [1 if "members" in example else len(of(example)) for example in examples]
    return torch.tensor([place for place, count in enumerate(counts) for _ in range(count)])


def _following(parts: Sequence[Example]) -> list[int]:
    """Of each position of sequences in a row the id that follows, if that one is learned. The first id of a sequence
    never is, so that nothing is told across their bounds.
    """
    ids = [one for part in parts for one in part["input_ids"]]
    flags = [flag for part in parts for flag in [False, *part["loss"][1:]]]
    return [*(one if flag else IGNORED for one, flag in zip(ids[1:], flags[1:], strict=True)), IGNORED]


def _padding(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.pad_token_id)
