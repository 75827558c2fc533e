"""What a backbone makes of rows: means over real tokens, whatever the batch and whatever stands around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import toy
from tests.evaluate import suites
from tunesmith.core.rows import each
from tunesmith.evaluate import features


def test_means_by_hand() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])  # [2, 3, 1]
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert features.mean(states, mask).tolist() == [[2.0], [4.0]]
    # A virtual token stands before the text's.
    virtual = torch.cat([torch.full((2, 1, 1), 50.0), states], dim=1)
    assert features.mean(virtual, mask).tolist() == [[2.0], [4.0]]
    assert features.mean(torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]]), None).tolist() == [[2.0, 6.0]]


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_they_are_those_of_each_text_alone(backbone: str) -> None:
    toyed = toy.prepared({"model": backbone}, count=12)
    model = suites.asked(toyed)
    found = model.features(toyed.batches.rows)
    assert found.dtype == np.float32
    for row, vector in zip(each(toyed.batches.rows), found, strict=True):
        encoded = toyed.backbone.tokenizer(row["text"], return_tensors="pt")
        body = features._body(toyed.backbone.model).eval()
        with torch.no_grad():
            alone = body(input_ids=encoded["input_ids"]).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, alone.numpy(), atol=1e-5)


def test_layers_begin_with_the_embeddings_and_end_with_the_last_states() -> None:
    toyed = toy.prepared({}, count=6)
    model = suites.asked(toyed)
    every = model.features(toyed.batches.rows, layers=True)
    assert every.shape[:2] == (6, 3)  # two blocks
    np.testing.assert_allclose(every[:, -1], model.features(toyed.batches.rows), atol=1e-6)


def test_an_example_of_several_sequences_has_the_mean_of_theirs() -> None:
    found = features._joined(torch.tensor([[[1.0]], [[3.0]], [[7.0]]]), torch.tensor([0, 0, 1]), 2)
    assert found.tolist() == [[[2.0]], [[7.0]]]


def test_scores_are_the_logits_in_the_order_of_rows() -> None:
    toyed = toy.prepared({}, count=12)
    scores = suites.asked(toyed).scores(toyed.batches.rows)
    assert scores is not None and scores.shape == (12, 3)
    texts = [row["text"] for row in each(toyed.batches.rows)]
    np.testing.assert_allclose(scores, toy.logits(toyed.backbone.model, toyed.backbone.tokenizer, texts), atol=1e-5)
    assert suites.asked(toy.prepared({"task": "regress"})).scores(toyed.batches.rows) is None
