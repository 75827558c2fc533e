"""Ranks by cosine, by hand and by a search; what a bootstrap keeps of them."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.tasks import embed_ranking
from tunesmith.tasks.embed_ranking import Ranked, ideal, key_of, metrics, ranks

EAST, NORTH, BOTH = [1.0, 0.0], [0.0, 2.0], [3.0, 3.0]


def rows(queries: list[list[float]], texts: list[list[float]], keys: list[int]) -> np.ndarray:
    """Answers [rows, 2, hidden + 1]."""
    return np.array([[[*query, key], [*text, key]] for query, text, key in zip(queries, texts, keys, strict=True)])


def test_ranks_by_hand() -> None:
    texts, keys = np.array([EAST, NORTH, BOTH]), np.array([1, 2, 3])
    # East finds itself first; for "both" seeking north, "both" is ahead and east ties; north seeks east: all are ahead.
    queries, wanted = np.array([EAST, BOTH, NORTH]), np.array([1, 2, 1])
    assert ranks(queries, texts, keys, wanted).tolist() == [1, 2.5, 3]
    # A text that is not there stands behind all.
    assert ranks(queries, texts, keys, np.array([9, 9, 9])).tolist() == [4, 4, 4]
    # Copies of the right text are not wrong, and the first of them counts.
    assert ranks(np.array([BOTH]), texts, np.array([2, 2, 3]), np.array([2])).tolist() == [2]


def test_vectors_that_are_all_the_same_find_nothing() -> None:
    same = np.ones((5, 3))
    assert ranks(same, same, np.arange(5), np.arange(5)).tolist() == [3.0] * 5


def test_ranks_are_those_of_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_ranking, "BLOCK", 7)
    draw = np.random.default_rng(0)
    queries, texts = draw.normal(size=(30, 4)), draw.normal(size=(30, 4))
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        texts / np.linalg.norm(texts, axis=1, keepdims=True)
    ).T
    expected = [sorted(-row).index(-row[place]) + 1 for place, row in enumerate(cosines)]
    assert ranks(queries, texts, np.arange(30), np.arange(30)).tolist() == expected


def test_a_large_split_is_compared_with_a_part_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_ranking, "CANDIDATES", 3)
    vectors = np.array([ideal(key) for key in range(50)])
    assert ranks(vectors, vectors, np.arange(50), np.arange(50)).tolist() == [1] * 50
    assert ranks(-vectors, vectors, np.arange(50), np.arange(50)).max() == 4


def test_metrics_by_hand() -> None:
    found = metrics(np.array([1.0, 2.0, 20.0, 1.5]))
    assert found == pytest.approx({"mrr": (1 + 1 / 2 + 1 / 20 + 2 / 3) / 4, "recall_at_1": 0.25, "recall_at_10": 0.75})


def test_drawn_rows_keep_their_ranks() -> None:
    answers, ranked = rows([EAST, BOTH, BOTH], [EAST, NORTH, BOTH], [1, 2, 3]), Ranked()
    assert ranked.of(answers, answers).tolist() == [1, 2.5, 1]
    # Without row 2 in the draw, row 1 would have no text ahead of it: it keeps its rank.
    places = [1, 1, 0]
    assert ranked.of(answers[places], answers[places]).tolist() == [2.5, 2.5, 1]
    # Other rows, or fewer, are ranked anew.
    assert ranked.of(answers[:2], answers[:2]).tolist() == [1, 1.5]
    other = rows([NORTH, BOTH], [EAST, NORTH], [1, 2])
    assert ranked.of(other, other).tolist() == [2, 1.5]
    assert ranked.of(other[::-1], other).tolist() == [1, 1.5]  # each row wants the other's text


def test_keys_and_directions_tell_texts_apart() -> None:
    texts = [f"text {number}" for number in range(2000)]
    keys = [key_of(text) for text in texts]
    assert len(set(keys)) == len(texts) and all(float(key) == key < 2**52 for key in keys)
    assert key_of("text 0") == keys[0]
    directions = np.array([ideal(key) for key in keys[:500]])
    assert np.linalg.norm(directions, axis=1) == pytest.approx(np.ones(500))
    assert (directions @ directions.T - 2 * np.eye(500)).max() < 1 - 1e-4
