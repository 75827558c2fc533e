"""Soups by hand."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.core import soup
from tunesmith.core.soup import Tried


def measured(taken: Sequence[int]) -> float:
    return {(3,): 0.8, (3, 1): 0.7, (3, 2): 0.8, (3, 2, 4): 0.9, (3, 1, 2): 0.6, (3, 1, 2, 4): 0.5}[tuple(taken)]


def test_greedy_takes_what_does_not_harm() -> None:
    found = soup.greedy([3, 1, 2, 4], measured)
    assert found == [Tried(3, True, 0.8), Tried(1, False, 0.7), Tried(2, True, 0.8), Tried(4, True, 0.9)]
    assert soup.taken(found) == [3, 2, 4]
    assert soup.greedy([3], measured) == [Tried(3, True, 0.8)]


def test_uniform_takes_all() -> None:
    found = soup.uniform([3, 1, 2, 4], measured)
    assert [one.value for one in found] == [0.8, 0.7, 0.6, 0.5] and soup.taken(found) == [3, 1, 2, 4]


def test_what_is_not_defined_is_worse_than_all() -> None:
    values = {(1,): float("-inf"), (1, 2): 0.1}
    assert soup.taken(soup.greedy([1, 2], lambda taken: values[tuple(taken)])) == [1, 2]
