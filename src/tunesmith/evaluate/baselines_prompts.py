"""Prompts for a language model, and how likely it finds worded labels behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tunesmith.core.column import Row
from tunesmith.core.part import Reader
from tunesmith.core.tokens import filled, specials
from tunesmith.evaluate import perplexity

TEMPLATES = {
    ("text",): "Text: {text}\nLabel:",
    ("text", "pair"): "First text: {text}\nSecond text: {pair}\nLabel:",
}
BETWEEN = "\n\n"
BLANK = "N/A"
"""The input without content of Zhao et al., 2021."""
Ids = list[int]


def fields(template: str) -> set[str]:
    """What a template names in braces. One that can't be read raises ValueError."""
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def worded(labels: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """What each class is called in a prompt: its entry in `names`, or else its name with blanks for underscores."""
    return [names.get(label, label.replace("_", " ")) for label in labels]


@dataclass(frozen=True)
class Wording:
    """template: the text of a row as a prompt, {text} and {pair} filled in. words: what each class is called."""

    template: str
    words: Sequence[str]

    def asked(self, row: Row) -> str:
        """The prompt of a row, up to its label."""
        return self.template.format(text=row["text"], pair=row.get("pair", "")).rstrip()

    def shown(self, row: Row, number: int) -> str:
        """A row as an example, with its label."""
        return f"{self.asked(row)} {self.words[number]}"

    def blank(self) -> str:
        """The prompt of a row without content."""
        return self.asked({"text": BLANK, "pair": BLANK})


@dataclass(frozen=True)
class Prompt:
    """pairs: for every class the ids before its label, and those of the label. kept: the examples that stand in it.
    cut: whether the row itself lost its beginning.
    """

    pairs: list[tuple[Ids, Ids]]
    kept: tuple[str, ...]
    cut: bool


@dataclass(frozen=True)
class Encoder:
    """Makes prompts of at most `limit` tokens."""

    tokenizer: Reader
    limit: int
    words: Sequence[str]

    def prompt(self, examples: Sequence[str], asked: str) -> Prompt:
        """Examples and a question, in as many tokens as the model reads: examples are dropped from the front until they
        fit, and if need be the beginning of the question is.
        """
        kept = list(examples)
        start, _ = specials(self.tokenizer)
        while True:
            pairs = self._pairs(BETWEEN.join([*kept, asked]))
            longest = max(len(start) + len(before) + len(label) for before, label in pairs)
            if longest <= self.limit or not kept:
                break
            kept.pop(0)
        # A label is never cut: one that alone is longer than what the model reads could not be asked for.
        rooms = [max(1, self.limit - len(start) - len(label)) for _, label in pairs]
        fitting = [([*start, *before[-room:]], label) for (before, label), room in zip(pairs, rooms, strict=True)]
        return Prompt(fitting, tuple(kept), longest > self.limit)

    def _pairs(self, text: str) -> list[tuple[Ids, Ids]]:
        """The ids before the label and its own, for every class: text and label are encoded together, as a tokenizer
        may make other pieces of a label that stands alone; what differs from the text's ids is the label's.
        """
        whole = [text, *(f"{text} {word}" for word in self.words)]
        bare, *labelled = self.tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"]
        found = []
        for ids in labelled:
            same = next((n for n, (a, b) in enumerate(zip(bare, ids, strict=False)) if a != b), len(bare))
            same = min(max(same, 1), len(ids) - 1)
            found.append((list(ids[:same]), list(ids[same:])))
        return found


@torch.inference_mode()
def likelihoods(model: nn.Module, tokenizer: Reader, pairs: Sequence[tuple[Ids, Ids]]) -> np.ndarray:
    """1/n sum_t log p(y_t | x, y_<t) of every pair: ids x before, and ids y of n tokens after them [pairs], float64.

    Inputs that are the same (labels of one token behind one text) are read once. Padding stands on the right, where a
    causal model does not look, and the mask tells it; so positions count from the first token on.
    """
    needed: dict[tuple[int, ...], list[int]] = {}
    for number, (before, after) in enumerate(pairs):
        needed.setdefault((*before, *after[:-1]), []).append(number)
    inputs = list(needed)
    found = np.zeros(len(pairs))
    for places in perplexity.portions(model, [len(one) for one in inputs]):
        width = max(len(inputs[place]) for place in places)
        batch = {
            "input_ids": filled([inputs[place] for place in places], width, tokenizer.pad_token_id),
            "attention_mask": filled([[1] * len(inputs[place]) for place in places], width, 0),
        }  # each [batch, time]
        scores = perplexity.logits(model, batch)  # [batch, time, vocabulary]
        for line, place in enumerate(places):
            for number in needed[inputs[place]]:
                before, after = pairs[number]
                told = scores[line, len(before) - 1 : len(before) - 1 + len(after)].double()
                found[number] = -functional.cross_entropy(told, torch.tensor(after, device=told.device)).item()
    return found


def calibrated(scores: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Contextual calibration: softmax(p / p_blank), p = softmax(s), [rows, classes].

    s [rows, classes] are scores of the rows' labels, `blank` those behind the same prompt with an input without
    content: what the prompt alone prefers is divided out. Zhao, Wallace, Feng, Klein, Singh, "Calibrate Before Use:
    Improving Few-Shot Performance of Language Models", 2021, with W = diag(p_blank)^-1 and b = 0.
    """
    share = _softmax(scores) / np.maximum(_softmax(blank), 1e-12)
    return _softmax(share)


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return found
