"""How well a language model foretells texts: token by token from what stands before, or from all around it.

causal   exp(-1/n sum over tokens of log p(x_t | x_<t)), of all tokens that something stands before
masked   exp(-1/n sum over tokens of log p(x_t | x without t)), each token hidden alone: the pseudo-perplexity of
         Salazar et al., "Masked Language Model Scoring", 2020
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.core import anatomy, tokens
from tunesmith.core.part import Reader

LENGTH = 256
"""Most tokens of a text that are read."""
HIDDEN = 4000
"""Most tokens that are hidden, one at a time, over all texts."""
SCORES = 1 << 26
"""Most scores of words at once: sequences times positions times vocabulary."""
TOKENS = 8192
"""Most tokens at once, however small the vocabulary."""


def perplexity(sums: np.ndarray) -> float:
    """exp of the mean loss of a token, of losses in nats and numbers of tokens [texts, 2]; NaN without a token."""
    nats, count = sums.sum(axis=0).tolist()
    if not count:
        return math.nan
    return math.exp(nats / count) if nats / count < 700 else math.inf


def encoded(texts: Sequence[str], tokenizer: Reader, limit: int) -> list[dict[str, Any]]:
    """The texts as examples of at most `limit` tokens, and never more than LENGTH."""
    return tokens.encode_texts([{"text": text} for text in texts], tokenizer, min(limit, LENGTH))


@torch.inference_mode()
def causal(model: nn.Module, tokenizer: Reader, examples: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Loss in nats and number of tokens of each example [examples, 2]."""
    found = np.zeros((len(examples), 2))
    for places in portions(model, [len(one["input_ids"]) for one in examples]):
        inputs = tokens.pad([examples[place] for place in places], tokenizer)
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, tokens.IGNORED)[:, 1:]
        scores = logits(model, inputs)[:, :-1]  # [batch, time - 1, vocabulary]
        losses = tokens.token_losses(scores, labels.to(scores.device))
        found[places, 0] = losses.double().sum(dim=1).cpu().numpy()
        found[places, 1] = (labels != tokens.IGNORED).sum(dim=1).numpy()
    return found


@torch.inference_mode()
def masked(model: nn.Module, tokenizer: Reader, examples: Sequence[Mapping[str, Any]], seed: int) -> np.ndarray:
    """Loss in nats and number of hidden tokens of each example [examples, 2]. Special tokens are not hidden; of more
    than HIDDEN others, as many are drawn.
    """
    special = set(tokenizer.all_special_ids)
    spots = [
        (place, at)
        for place, one in enumerate(examples)
        for at, token in enumerate(one["input_ids"])
        if token not in special
    ]
    if len(spots) > HIDDEN:
        chosen = np.random.default_rng(seed).choice(len(spots), HIDDEN, replace=False)
        spots = [spots[number] for number in sorted(chosen.tolist())]
    found = np.zeros((len(examples), 2))
    for numbers in portions(model, [len(examples[place]["input_ids"]) for place, _ in spots]):
        some = [spots[number] for number in numbers]
        inputs = tokens.pad([examples[place] for place, _ in some], tokenizer)
        lines, columns = torch.arange(len(some)), torch.tensor([at for _, at in some])
        right = inputs["input_ids"][lines, columns].clone()
        inputs["input_ids"][lines, columns] = tokenizer.mask_token_id
        scores = logits(model, inputs)
        losses = functional.cross_entropy(
            scores[lines, columns].float(), right.to(scores.device), reduction="none"
        )  # [batch]
        np.add.at(found, [place for place, _ in some], np.stack([losses.double().cpu().numpy(), np.ones(len(some))], 1))
    return found


def logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Scores of the vocabulary at the text's positions [batch, time, vocabulary]; those of virtual tokens, which stand
    before the text, are left out.
    """
    device, accepted = anatomy.device_of(model), inspect.signature(type(model).forward).parameters
    given = {name: tensor.to(device) for name, tensor in inputs.items() if name in accepted}
    found: Tensor = model(**given).logits
    return found[:, found.shape[1] - inputs["input_ids"].shape[1] :]


def portions(model: nn.Module, lengths: Sequence[int]) -> list[list[int]]:
    """Places of sequences, the longest first, in portions of at most SCORES scores and TOKENS tokens."""
    layer: Any = anatomy.output_layer(model)
    most, found = min(TOKENS, SCORES // len(layer.weight)), list[list[int]]()
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not found or (len(found[-1]) + 1) * lengths[found[-1][0]] > most:
            found.append([])
        found[-1].append(place)
    return found
