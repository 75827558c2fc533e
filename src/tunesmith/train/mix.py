"""Which rows of several files an epoch takes, and in which share of each.

File i has n_i rows and the weight w_i, so its share is p_i = w_i / sum_j w_j. An epoch has n = sum_i n_i examples, k_i
of them from file i: p_i n, rounded so that the sum is n (largest remainder: the files whose p_i n lost most by rounding
down get one more). The rows of a file go by in passes, each in an order of its own that has every row once; epoch e
takes the places e k_i to (e + 1) k_i of them, whatever pass these are in. So nothing is left out between epochs, the
rows of a file are seen equally often, give or take one, and an epoch follows from the seed and its number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunesmith.core.errors import RecipeError
from tunesmith.core.panel import Cell, Table
from tunesmith.core.seeding import seed_of

Numbers = NDArray[np.int64]


class Draw(NamedTuple):
    """Rows that are trained on: their numbers, and which pass over its file each is of, from 0 on; both [examples]."""

    rows: Numbers
    passes: Numbers

    def at(self, places: Numbers | slice) -> Draw:
        """Those at these places."""
        return Draw(self.rows[places], self.passes[places])


def shares(weights: Sequence[float]) -> list[float]:
    """p_i = w_i / sum_j w_j. The largest weight is set to 1 first: no sum is too large for a number."""
    scaled = [weight / max(weights) for weight in weights]
    return [weight / sum(scaled) for weight in scaled]


def apportioned(parts: Sequence[float], total: int) -> list[int]:
    """Whole numbers that add up to `total`, in these parts of it, by the largest remainder; the first of equal ones."""
    wanted = np.array(parts) * total
    counts = np.floor(wanted).astype(np.int64)
    order = np.argsort(counts - wanted, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    found: list[int] = counts.tolist()
    return found


def stretch(size: int, start: int, count: int, seed: int) -> Draw:
    """`count` rows from place `start` on, of endless passes over `size` rows, each in an order that its number and the
    seed alone decide.
    """
    rows, passes = [], []
    for number in range(start // size, -(-(start + count) // size)):
        order = np.random.default_rng(seed_of(seed, f"pass {number}")).permutation(size)
        rows.append(order[max(0, start - number * size) : start + count - number * size])
        passes.append(np.full(len(rows[-1]), number))
    return Draw(np.concatenate(rows), np.concatenate(passes))


@dataclass(frozen=True)
class Mix:
    """files: their names. weights: of each. rows: how many each has, as they are trained on. Row numbers count through
    all of them, one file after another. A file of whose rows an epoch takes none raises RecipeError.
    """

    files: Sequence[str]
    weights: Sequence[float]
    rows: Sequence[int]
    seed: int

    def __post_init__(self) -> None:
        for file, weight, share, count in zip(self.files, self.weights, shares(self.weights), self.counts, strict=True):
            if not count:
                raise RecipeError(
                    f"data.mix: the weight {weight:g} gives {file} {100 * share:.2g} % of the training, and so none of "
                    f"the {sum(self.rows):,} examples of an epoch.",
                    hint="Give it a greater weight (or the others smaller ones), or leave it out.",
                )

    @cached_property
    def counts(self) -> list[int]:
        """How many examples of an epoch are of each file."""
        return apportioned(shares(self.weights), sum(self.rows))

    def draw(self, epoch: int) -> Draw:
        """The rows of an epoch, file by file."""
        rows, passes, first = [], [], 0
        for place, (size, count) in enumerate(zip(self.rows, self.counts, strict=True)):
            found = stretch(size, epoch * count, count, seed_of(self.seed, f"file {place}"))
            rows.append(first + found.rows)
            passes.append(found.passes)
            first += size
        return Draw(np.concatenate(rows), np.concatenate(passes))

    def counted(self, numbers: Sequence[int]) -> list[int]:
        """How many of these rows are of each file."""
        places = np.searchsorted(np.cumsum(self.rows), np.array(numbers, dtype=np.int64), side="right")
        found: list[int] = np.bincount(places, minlength=len(self.rows)).tolist()
        return found

    def told(self) -> str:
        """The mixture in a sentence."""
        parts = [
            f"{100 * count / sum(self.counts):.1f} % of the examples from {file} ({rows:,} rows, weight {weight:g}, "
            f"{count / rows:.3g} passes an epoch)"
            for file, weight, rows, count in zip(self.files, self.weights, self.rows, self.counts, strict=True)
        ]
        return f"Mixture: {', '.join(parts)}."

    def panel(self, seen: Sequence[int] | None = None) -> Table:
        """The files, and how much of each is seen in an epoch; or in a training whose examples were counted."""
        counts = self.counts if seen is None else seen
        over = "an epoch" if seen is None else "the training"
        total = max(1, sum(counts))
        rows: list[list[Cell]] = [
            [file, count, float(weight), done, round(done / total, 4), round(done / count, 4)]
            for file, weight, count, done in zip(self.files, self.weights, self.rows, counts, strict=True)
        ]
        told = "Their shares follow from the weights." if seen is None else "Counted while it trained."
        return Table(
            "Files of the training",
            ["file", "rows", "weight", f"examples of {over}", "share of them", "passes over the file"],
            rows,
            f"{told} Rows are those that are trained on: after splitting off, cutting and packing.",
        )
