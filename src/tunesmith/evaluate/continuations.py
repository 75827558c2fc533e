"""How a language model goes on with a few plain beginnings: the likeliest token, again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tunesmith.core.part import Reader
from tunesmith.core.tokens import filled, specials
from tunesmith.evaluate.perplexity import logits

BEGINNINGS = (
    "The weather this morning was",
    "To bake a loaf of bread you need",
    "The capital of France is",
    "She opened the door and saw",
    "One, two, three, four,",
    "The opposite of hot is",
    "Dogs and cats are",
    "In the evening the family sat down and",
    "The teacher explained that the sun",
    "My favourite season is",
)
ROOM = 24
"""Tokens of a continuation."""


def prompts(tokenizer: Reader) -> list[list[int]]:
    """The beginnings as ids, with what the tokenizer puts before a text and without what it puts behind."""
    start, _ = specials(tokenizer)
    return [[*start, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in BEGINNINGS]


@torch.inference_mode()
def greedy(model: nn.Module, tokenizer: Reader, given: Sequence[Sequence[int]]) -> list[list[int]]:
    """The ids with which a model goes on: at most ROOM each, up to the token that ends a text, with it.

    Padding stands behind, where a model that goes on does not look.
    """
    found: list[list[int]] = [[] for _ in given]
    waiting = list(range(len(given)))
    for _ in range(ROOM):
        whole = [[*given[place], *found[place]] for place in waiting]
        scores = logits(model, _padded(whole, tokenizer))
        last = torch.tensor([len(ids) - 1 for ids in whole], device=scores.device)
        for place, token in zip(waiting, scores[range(len(whole)), last].argmax(dim=-1).tolist(), strict=True):
            found[place].append(token)
        waiting = [place for place in waiting if found[place][-1] != tokenizer.eos_token_id]
        if not waiting:
            break
    return found


@torch.inference_mode()
def losses(
    model: nn.Module, tokenizer: Reader, given: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> np.ndarray:
    """What a model finds of answers, its own or another's: loss in nats and number of tokens of each [answers, 2]."""
    whole = [[*one, *answer] for one, answer in zip(given, answers, strict=True)]
    inputs = _padded(whole, tokenizer)
    scores = logits(model, inputs).float()
    found = []
    for line, (one, answer) in enumerate(zip(given, answers, strict=True)):
        told = scores[line, len(one) - 1 : len(one) - 1 + len(answer)]  # [answer, vocabulary]
        right = torch.tensor(answer, device=told.device)
        found.append([functional.cross_entropy(told, right, reduction="sum").item(), len(answer)])
    return np.array(found)


def _padded(whole: Sequence[Sequence[int]], tokenizer: Reader) -> dict[str, torch.Tensor]:
    width = max(map(len, whole))
    return {
        "input_ids": filled(whole, width, tokenizer.pad_token_id),
        "attention_mask": filled([[1] * len(ids) for ids in whole], width, 0),
    }  # each [texts, time]
