"""Hidden words: what is a word, which are chosen, what stands in their place."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tunesmith.tasks import fill_masks


def test_words_are_runs_of_tokens_between_starts_and_special_tokens() -> None:
    # <s> a ##b c </s> d ##e </s>, where 1 and 2 are special; a piece may begin in the middle of a word.
    ids, starts = [1, 10, 11, 12, 2, 13, 14, 2], [False, False, False, True, False, True, False, False]
    assert fill_masks.words_of(ids, starts, {1, 2}) == [[1, 2], [3], [5, 6]]
    # A special token ends a word, so that none reaches over it.
    assert fill_masks.words_of([10, 2, 11], [True, False, False], {2}) == [[0], [2]]
    assert fill_masks.words_of([1, 2], [False, False], {1, 2}) == []


@pytest.mark.parametrize(("words", "share", "expected"), [(1, 0.15, 1), (10, 0.15, 2), (40, 0.15, 6), (3, 0.9, 3)])
def test_a_share_of_the_words_is_chosen_and_at_least_one(words: int, share: float, expected: int) -> None:
    every = [[number] for number in range(words)]
    chosen = fill_masks.choose(every, share, np.random.default_rng(0))
    assert len(chosen) == expected == len({word[0] for word in chosen})
    assert fill_masks.choose([], share, np.random.default_rng(0)) == []


def test_every_word_is_equally_likely() -> None:
    words = [[0], [1, 2, 3, 4], [5], [6, 7], [8]]
    counts = Counter(fill_masks.choose(words, 0.2, np.random.default_rng(seed))[0][0] for seed in range(5000))
    # Each is expected 1000 times, give or take 4 standard deviations of sqrt(5000 * 0.2 * 0.8) = 28.
    assert all(abs(counts[word[0]] - 1000) < 113 for word in words)


def test_of_ten_chosen_tokens_eight_are_masked_and_one_is_another() -> None:
    vocabulary = fill_masks.Vocabulary(mask=3, size=20, special={0, 1, 2, 3})
    draw = np.random.default_rng(0)
    found = Counter(vocabulary.disguise(7, draw) for _ in range(20000))
    # 80 % masks; 10 % kept, and of the random ones, which are 16 tokens, one in 16 is the same again.
    assert found[3] / 20000 == pytest.approx(0.8, abs=0.01)
    assert found[7] / 20000 == pytest.approx(0.1 + 0.1 / 16, abs=0.01)
    assert not {0, 1, 2} & set(found) and len(found) == 1 + 16


def test_the_fixed_draw_follows_from_the_tokens_alone() -> None:
    first, again, other = (fill_masks.fixed(ids).random(4).tolist() for ids in ([1, 2, 3], [1, 2, 3], [1, 3, 2]))
    assert first == again != other
