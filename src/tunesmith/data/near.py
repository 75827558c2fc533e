"""Held-out texts that nearly repeat a training text.

Two texts are near when the Jaccard similarity of their sets of word triples (of words, in texts of one or two words)
is at least 4/5, letters lower-cased and punctuation left out. The search is exact. Of two such sets, A and B, at least
4/5 of A lie in B, so they meet within the |A| - ceil(4/5 |A|) + 1 rarest members of A: only texts that meet there are
compared (prefix filtering; Chaudhuri, Ganti, Kaushik, "A Primitive Operator for Similarity Joins in Data Cleaning",
2006).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

# Longer texts are compared by their beginning.
MOST_WORDS = 500
WORD = re.compile(r"\w+")
# Odd factors with well-mixed bits, so that the order of words counts.
FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True)
class Pair:
    """Text `held` of the held-out texts nearly repeats text `train` of the training texts (positions)."""

    held: int
    train: int
    similarity: float


@dataclass(frozen=True)
class Sets:
    """Sets of hashes, one after another: each has an owner, both in rising order."""

    codes: NDArray[np.uint64]  # [members]
    owners: NDArray[np.int64]  # [members]
    sizes: NDArray[np.int64]  # [sets]

    def members(self, owner: int) -> NDArray[np.uint64]:
        """The members of one set [members of the set]."""
        start, end = np.searchsorted(self.owners, [owner, owner + 1])
        return self.codes[start:end]


def shingles(texts: Sequence[str]) -> Sets:
    """The set of word triples of every text."""
    words = [WORD.findall(text.lower())[:MOST_WORDS] for text in texts]
    lengths = np.array([len(found) for found in words], dtype=np.int64)  # [texts]
    # Python's own hash differs from run to run, but what equals what does not.
    hashes = np.fromiter(map(hash, chain.from_iterable(words)), dtype=np.int64).view(np.uint64)  # [words]
    owners = np.repeat(np.arange(len(texts)), lengths)  # [words]
    triples = hashes[:-2] * FIRST + hashes[1:-1] * SECOND + hashes[2:]
    whole = owners[:-2] == owners[2:]
    short = lengths[owners] < 3
    codes = np.concatenate([triples[whole], hashes[short]])
    owners = np.concatenate([owners[:-2][whole], owners[short]])
    order = np.lexsort((codes, owners))
    codes, owners = codes[order], owners[order]
    new = np.ones(len(codes), dtype=np.bool_)
    new[1:] = (codes[1:] != codes[:-1]) | (owners[1:] != owners[:-1])
    return Sets(codes[new], owners[new], np.bincount(owners[new], minlength=len(texts)))


def pairs(held: Sequence[str], train: Iterable[Sequence[str]]) -> list[Pair]:
    """For each held-out text that has one, the first near text of `train`, which comes in batches."""
    index = _Index(shingles(held))
    found: dict[int, Pair] = {}
    start = 0
    for texts in train:
        for pair in index.near(shingles(texts)):
            found.setdefault(pair.held, Pair(pair.held, start + pair.train, pair.similarity))
        start += len(texts)
    return [found[position] for position in sorted(found)]


class _Index:
    """Held-out sets, found by their rarest members."""

    def __init__(self, sets: Sets) -> None:
        self._sets = sets
        self._known, self._counts = np.unique(sets.codes, return_counts=True)
        codes, owners = self._rarest(sets)
        order = np.argsort(codes, kind="stable")
        self._codes, self._owners = codes[order], owners[order]

    def near(self, sets: Sets) -> list[Pair]:
        """All pairs of a held-out set and one of `sets` that are near, in the order of `sets`."""
        codes, owners = self._rarest(sets)
        start = np.searchsorted(self._codes, codes)
        hits = np.searchsorted(self._codes, codes, side="right") - start
        # One line for every member of `sets` and every held-out set that has it among its rarest.
        left = np.repeat(owners, hits)
        steps = np.arange(hits.sum()) - np.repeat(np.cumsum(hits) - hits, hits)
        right = self._owners[np.repeat(start, hits) + steps]
        found = []
        for one, other in np.unique(np.stack([left, right], axis=1), axis=0).tolist():
            common = len(np.intersect1d(sets.members(one), self._sets.members(other), assume_unique=True))
            union = int(sets.sizes[one] + self._sets.sizes[other]) - common
            if 5 * common >= 4 * union:
                found.append(Pair(other, one, common / union))
        return found

    def _rarest(self, sets: Sets) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Members that any near set must share one of, as far as the index knows them; and their owners."""
        if not len(self._known) or not len(sets.codes):
            return sets.codes[:0], sets.owners[:0]
        places = np.minimum(np.searchsorted(self._known, sets.codes), len(self._known) - 1)
        known = self._known[places] == sets.codes
        # Members that no held-out text has are the rarest of all.
        frequency = np.where(known, self._counts[places], 0)
        order = np.lexsort((sets.codes, frequency, sets.owners))
        starts = np.cumsum(sets.sizes) - sets.sizes
        rank = np.arange(len(order)) - starts[sets.owners]
        prefix = sets.sizes - -(-4 * sets.sizes // 5) + 1
        kept = order[(rank < prefix[sets.owners]) & known[order]]
        return sets.codes[kept], sets.owners[kept]
