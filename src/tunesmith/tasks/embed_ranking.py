"""Where the right text stands among all that a split holds, by the cosine of vectors."""

from __future__ import annotations

import hashlib

import numpy as np

CANDIDATES = 10_000
"""Most texts that a row is compared with; of more, evenly spread ones and its own."""
BLOCK = 1_000
ALIKE = 1e-6
"""Cosines that differ by less are a tie."""


def key_of(text: str) -> int:
    """A number that stands for a text: 52 bits of its SHA-256, which a float holds exactly."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 12


def ideal(key: int, size: int = 8) -> np.ndarray:
    """A direction of its own for each text [size]: the vectors of a perfect model."""
    vector: np.ndarray = np.random.default_rng(key).normal(size=size)
    vector /= np.linalg.norm(vector)
    return vector


def ranks(queries: np.ndarray, candidates: np.ndarray, keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each query's right candidate by cosine, 1 for the first [rows]; candidates that tie with it count
    half, other copies of the right text not at all.

    queries, candidates [rows, hidden]; keys [rows] of the candidates' texts, wanted [rows] of the right ones. One that
    is not among the candidates stands behind them all.
    """
    queries, candidates = _units(queries), _units(candidates)
    chosen = np.unique(np.linspace(0, len(keys) - 1, min(len(keys), CANDIDATES)).astype(int))
    places = {key: place for place, key in reversed(list(enumerate(keys.tolist())))}
    own = np.array([places.get(key, -1) for key in wanted.tolist()])
    scores = np.where(own >= 0, (queries * candidates[own]).sum(axis=1), -np.inf)
    found = np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        difference = queries[rows] @ candidates[chosen].T - scores[rows, None]  # [block, candidates]
        other = keys[chosen][None] != wanted[rows, None]
        ahead, level = other & (difference > ALIKE), other & (np.abs(difference) <= ALIKE)
        found[rows] = 1 + ahead.sum(axis=1) + level.sum(axis=1) / 2
    return found


DEFINES = {
    "mrr": "Mean reciprocal rank: the mean of 1 / place at which the right text stands among all by cosine.",
    "recall_at_1": "The share of rows whose right text stands first by cosine.",
    "recall_at_10": "The share of rows whose right text is among the first ten by cosine.",
    "spearman": "Spearman's correlation of cosines and scores: 1 where their order is the same.",
    "pearson": "Pearson's correlation of cosines and scores: 1 where they lie on a rising line.",
}
"""What the metrics of embeddings are: of pairs that are ranked, and of pairs with scores."""


def metrics(places: np.ndarray) -> dict[str, float]:
    """The mean of 1 / place, and the shares of rows whose right text stands first, or among the first ten."""
    return {
        "mrr": float((1 / places).mean()),
        "recall_at_1": float((places <= 1).mean()),
        "recall_at_10": float((places <= 10).mean()),
    }


class Ranked:
    """Ranks of the rows that were ranked last.

    A bootstrap draws rows anew from a split; what each is compared with must stay the whole split, or every draw would
    have fewer candidates. Rows that were all ranked together before keep the ranks that they had.
    """

    def __init__(self) -> None:
        self._marks, self._ranks = np.empty(0, np.uint64), np.empty(0)

    def __eq__(self, other: object) -> bool:
        """What is remembered makes no two tasks differ."""
        return isinstance(other, Ranked)

    __hash__ = None  # type: ignore[assignment]

    def of(self, truths: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """The rank of each row's right text: truths and answers [rows, 2, hidden + 1], two vectors and the key of the
        second text: [rows].
        """
        marks = _marks(truths, answers)
        if len(marks) == len(self._marks):
            places = np.minimum(np.searchsorted(self._marks, marks), len(marks) - 1)
            if (self._marks[places] == marks).all():
                known: np.ndarray = self._ranks[places]
                return known
        vectors, keys = answers[:, :, :-1], answers[:, 1, -1]
        found = ranks(vectors[:, 0], vectors[:, 1], keys, truths[:, 1, -1])
        order = np.argsort(marks)
        self._marks, self._ranks = marks[order], found[order]
        return found


def _units(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: np.ndarray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return units


def _marks(truths: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """A number that tells rows apart: of the bits of their keys and of the first entries of their vectors [rows]."""
    values = (truths[:, 1, -1], answers[:, 1, -1], answers[:, 0, 0], answers[:, 1, 0])
    mark = np.zeros(len(truths), np.uint64)
    for value in values:
        bits = np.ascontiguousarray(value, dtype=np.float64).view(np.uint64)
        mark = (mark ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        mark ^= mark >> np.uint64(29)
    return mark
