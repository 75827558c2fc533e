"""Which of several models go into the mean of their weights, by what is measured of the mean.

Paper: Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models Improves Accuracy without
Increasing Inference Time", 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Measured = Callable[[Sequence[int]], float]
"""From the numbers of models, what is measured of their mean; higher is better."""


@dataclass(frozen=True)
class Tried:
    """One model, whether it was taken into the soup, and what was measured of the soup with it."""

    number: int
    taken: bool
    value: float


def greedy(best_first: Sequence[int], measured: Measured) -> list[Tried]:
    """Take the first, and of the others, in their order, each with which what is measured of all taken does not
    fall.
    """
    found: list[Tried] = []
    value = float("-inf")
    for number in best_first:
        tried = measured([*taken(found), number])
        found.append(Tried(number, tried >= value, tried))
        value = max(value, tried)
    return found


def uniform(best_first: Sequence[int], measured: Measured) -> list[Tried]:
    """Take all, whatever is measured."""
    return [Tried(number, True, measured(best_first[:count])) for count, number in enumerate(best_first, 1)]


def taken(tried: Sequence[Tried]) -> list[int]:
    """The numbers of those that were taken, in their order."""
    return [one.number for one in tried if one.taken]


SOUPS = {"uniform": uniform, "greedy": greedy}
