"""Pooling and the losses of vectors by hand, and sentence-transformers' own pooling and losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.modules.pooling import Pooling
from sentence_transformers.util import cos_sim
from torch.nn import functional

from tunesmith.tasks import embed_vectors


def test_pooling_by_hand() -> None:
    states = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert embed_vectors.pool(states, mask, "mean").tolist() == [[2.0, 2.0]]
    assert embed_vectors.pool(states, mask, "first").tolist() == [[1.0, 0.0]]
    assert embed_vectors.pool(states, mask, "last").tolist() == [[3.0, 4.0]]
    assert embed_vectors.pool(states.bfloat16(), mask, "mean").dtype == torch.float32


@pytest.mark.parametrize(("how", "theirs"), [("mean", "mean"), ("first", "cls"), ("last", "lasttoken")])
def test_pooling_is_that_of_sentence_transformers(how: Any, theirs: str) -> None:
    states, lengths = torch.randn(5, 7, 4), torch.tensor([7, 1, 3, 6, 2])
    mask = (torch.arange(7) < lengths[:, None]).long()
    given = Pooling(4, pooling_mode=theirs)({"token_embeddings": states, "attention_mask": mask})
    assert torch.allclose(embed_vectors.pool(states, mask, how), given["sentence_embedding"], atol=1e-6)


def test_the_squared_error_by_hand() -> None:
    found = embed_vectors.squared_error(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.8]))
    assert found.item() == pytest.approx(0.25 + 0.04)


def test_the_in_batch_loss_by_hand() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # Cosines of the first: 1 and 0, of the second 0 and 1; of the negative 0 and 1. Over a temperature of 1 / log 2:
    # weights 2, 1, 1 and 1, 2, 2.
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    temperature, free = 1 / math.log(2), torch.zeros(2, 3, dtype=torch.bool)
    found = embed_vectors.in_batch_loss(queries, candidates, temperature, free)
    assert found.item() == pytest.approx(math.log(2) + math.log(5 / 2))
    banned = torch.tensor([[False, False, False], [False, False, True]])
    found = embed_vectors.in_batch_loss(queries, candidates, temperature, banned)
    assert found.item() == pytest.approx(math.log(2) + math.log(3 / 2))


def test_the_in_batch_loss_is_that_of_ranking_by_cosine() -> None:
    # The reference: cross-entropy over sentence-transformers' cosines times a scale of 20.
    queries, candidates = torch.randn(4, 6), torch.randn(7, 6)
    expected = functional.cross_entropy(cos_sim(queries, candidates) * 20, torch.arange(4), reduction="sum")
    units = [functional.normalize(vectors, dim=-1) for vectors in (queries, candidates)]
    found = embed_vectors.in_batch_loss(units[0], units[1], 0.05, torch.zeros(4, 7, dtype=torch.bool))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_cosines_and_what_is_shown() -> None:
    first, second = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [np.nan, np.nan]])
    found = embed_vectors.cosines(first, second)
    assert found[0] == pytest.approx(0.96) and np.isnan(found[1])
    assert embed_vectors.shown(found[0], first[0]) == 0.96
    assert embed_vectors.shown(found[1], np.array([0.12345678, 1.0])) == [0.123457, 1.0]


def test_companions_name_one_way_of_pooling() -> None:
    files = embed_vectors.companions(8, "last", False, 128)
    chosen = [name for name, on in files["1_Pooling/config.json"].items() if on is True]
    assert chosen == ["pooling_mode_lasttoken", "include_prompt"]
    assert [module["path"] for module in files["modules.json"]] == ["", "1_Pooling"]
    assert embed_vectors.companions(8, "last", True, 128)["modules.json"][2]["path"] == "2_Normalize"
