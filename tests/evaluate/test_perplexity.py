"""Perplexity of texts, against transformers' own loss and against one masked token at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from tunesmith.core import anatomy
from tunesmith.evaluate import perplexity

TEXTS = ["amber basil", "a", "cedar delta ember fjord"]


def model_of(backbone: str, task: str) -> tuple[Any, Any]:
    toyed = toy.prepared({"model": backbone, "task": task})
    return toyed.backbone.model.eval(), toyed.backbone.tokenizer


def test_by_hand() -> None:
    assert perplexity.perplexity(np.array([[2.0, 1.0], [4.0, 2.0]])) == pytest.approx(math.exp(2))
    assert math.isnan(perplexity.perplexity(np.zeros((2, 2))))
    assert perplexity.perplexity(np.array([[1e6, 1.0]])) == math.inf


@torch.inference_mode()
def test_causal_losses_are_those_of_transformers_text_by_text() -> None:
    model, tokenizer = model_of("builtin:tiny-gpt2", "generate")
    examples = perplexity.encoded(TEXTS, tokenizer, 128)
    found = perplexity.causal(model, tokenizer, examples)
    for (nats, count), text in zip(found, TEXTS, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert count == ids.shape[1] - 1
        assert nats / count == pytest.approx(model(input_ids=ids, labels=ids).loss.item(), rel=1e-5)


@torch.inference_mode()
def test_masked_losses_hide_one_token_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = model_of("builtin:tiny-bert", "fill")
    examples = perplexity.encoded(TEXTS, tokenizer, 128)
    found = perplexity.masked(model, tokenizer, examples, seed=0)
    for (nats, count), text in zip(found, TEXTS, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        expected = 0.0
        for place in range(1, ids.shape[1] - 1):  # without <s> and </s>
            hidden = ids.clone()
            hidden[0, place] = tokenizer.mask_token_id
            expected -= model(input_ids=hidden).logits[0, place].log_softmax(dim=-1)[ids[0, place]].item()
        assert count == ids.shape[1] - 2 and nats == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(perplexity, "HIDDEN", 10)
    drawn = perplexity.masked(model, tokenizer, examples, seed=0)
    assert drawn[:, 1].sum() == 10 and (drawn <= found + 1e-4).all()


def test_batches_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = model_of("builtin:tiny-gpt2", "generate")
    monkeypatch.setattr(perplexity, "SCORES", 259 * 20)
    batches = perplexity.portions(model, [3, 10, 4, 30, 9])
    assert batches == [[3], [1, 4], [2, 0]]


def test_long_texts_are_cut() -> None:
    _, tokenizer = model_of("builtin:tiny-gpt2", "generate")
    (one,) = perplexity.encoded(["x" * 400], tokenizer, 100)
    assert len(one["input_ids"]) == 100 and one["cut"]


def test_portions_hold_so_many_scores_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Module()
    monkeypatch.setattr(anatomy, "output_layer", lambda _: nn.Linear(4, 10))
    monkeypatch.setattr(perplexity, "SCORES", 120)
    # 12 tokens at once: two of 5, one more would be 15; then 4 and 3, padded to 4; a long one stands alone.
    assert perplexity.portions(model, [5, 3, 20, 5, 4]) == [[2], [0, 3], [4, 1]]
    monkeypatch.setattr(perplexity, "TOKENS", 5)
    assert perplexity.portions(model, [2, 2, 2]) == [[0, 1], [2]]
