"""Which words of a block are hidden, and what stands in their place (Devlin et al., "BERT", 2019)."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

MASKED, REPLACED = 0.8, 0.1


def words_of(ids: Sequence[int], starts: Sequence[bool], special: Collection[int]) -> list[list[int]]:
    """The positions of each word of a block [words, …]; special tokens are in none, and end one."""
    words: list[list[int]] = []
    for position, (token, start) in enumerate(zip(ids, starts, strict=True)):
        if token in special:
            continue
        if start or not words or words[-1][-1] != position - 1:
            words.append([])
        words[-1].append(position)
    return words


def choose(words: Sequence[Sequence[int]], share: float, draw: np.random.Generator) -> list[Sequence[int]]:
    """A share of the words, drawn at random, all of them equally likely; at least one where there is any."""
    count = min(len(words), max(1, round(share * len(words))))
    return [words[number] for number in draw.choice(len(words), count, replace=False)] if words else []


@dataclass(frozen=True)
class Vocabulary:
    """The number of the mask token, how many tokens there are, and which of them are special."""

    mask: int
    size: int
    special: Collection[int]

    def disguise(self, token: int, draw: np.random.Generator) -> int:
        """What stands in a chosen token's place in training: the mask (80 %), a random token that is not special
        (10 %), or itself (10 %).
        """
        lot = draw.random()
        if lot < MASKED:
            return self.mask
        if lot >= MASKED + REPLACED:
            return token
        while (other := int(draw.integers(self.size))) in self.special:
            pass
        return other


def fixed(ids: Sequence[int]) -> np.random.Generator:
    """Random numbers that follow from these tokens alone."""
    return np.random.default_rng(zlib.crc32(np.array(ids, dtype=np.int64).tobytes()))
