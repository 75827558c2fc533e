"""Mixtures: shares by hand, every row of a file equally often, and an epoch that follows from its number alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.train.mix import Mix, apportioned, shares, stretch


def mix(rows: list[int], weights: list[float], seed: int = 0) -> Mix:
    return Mix([f"{letter}.csv" for letter in "abcd"[: len(rows)]], weights, rows, seed)


def test_shares_are_weights_over_their_sum() -> None:
    assert shares([1.0, 0.5, 2.0]) == pytest.approx([2 / 7, 1 / 7, 4 / 7])
    assert shares([3.0]) == [1.0]
    # Weights whose sum is no number.
    assert shares([1e308, 1e308]) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("parts", "total", "counts"),
    [
        ([0.5, 0.25, 0.25], 8, [4, 2, 2]),
        ([0.5, 0.25, 0.25], 10, [5, 3, 2]),  # 5, 2.5, 2.5: the first of equal remainders
        ([0.1, 0.45, 0.45], 7, [1, 3, 3]),  # 0.7, 3.15, 3.15
        ([2 / 7, 1 / 7, 4 / 7], 100, [29, 14, 57]),  # 28.57, 14.29, 57.14
        ([1 / 3, 1 / 3, 1 / 3], 9, [3, 3, 3]),
        ([1.0], 5, [5]),
    ],
)
def test_counts_add_up_by_the_largest_remainder(parts: list[float], total: int, counts: list[int]) -> None:
    assert apportioned(parts, total) == counts


def test_passes_have_every_row_once_in_another_order() -> None:
    found = stretch(7, 0, 21, seed=3)
    passes = found.rows.reshape(3, 7)
    assert all(sorted(one) == list(range(7)) for one in passes.tolist())
    assert len({tuple(one) for one in passes.tolist()}) == 3
    assert found.passes.tolist() == [0] * 7 + [1] * 7 + [2] * 7


@pytest.mark.parametrize("cuts", [[1, 2], [5, 7, 8, 20], [3, 6, 9, 12, 15, 18], [21]])
def test_stretches_that_meet_leave_nothing_out(cuts: list[int]) -> None:
    whole = stretch(7, 0, 21, seed=3)
    edges = [0, *cuts, *([21] if cuts[-1] < 21 else [])]
    found = [stretch(7, low, high - low, seed=3) for low, high in pairwise(edges)]
    assert np.concatenate([one.rows for one in found]).tolist() == whole.rows.tolist()
    assert np.concatenate([one.passes for one in found]).tolist() == whole.passes.tolist()


def test_an_epoch_has_as_many_rows_as_the_files_in_their_shares() -> None:
    # 35 rows; 1/7, 2/7 and 4/7 of them are 5, 10 and 20: the first file gets half a pass, the last four.
    made = mix([10, 20, 5], [0.5, 1.0, 2.0])
    assert made.counts == [5, 10, 20]
    for epoch in range(3):
        rows = made.draw(epoch).rows
        assert len(rows) == 35
        assert [np.count_nonzero((rows >= low) & (rows < high)) for low, high in ((0, 10), (10, 30), (30, 35))] == [
            5, 10, 20,
        ]  # fmt: skip
        assert made.counted(rows.tolist()) == [5, 10, 20]
    # Two epochs are a pass over the first file and one over the second: no row is lost at the border.
    both = np.concatenate([made.draw(0).rows, made.draw(1).rows])
    assert sorted(both[both < 30].tolist()) == list(range(30))


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.3, 2.2], [1.0, 7.0, 0.2]])
def test_rows_of_a_file_are_seen_equally_often_give_or_take_one(weights: list[float]) -> None:
    made = mix([13, 29, 4], weights)
    seen: Counter[int] = Counter()
    for epoch in range(11):
        seen.update(made.draw(epoch).rows.tolist())
        for low, high in ((0, 13), (13, 42), (42, 46)):
            times = [seen[row] for row in range(low, high)]
            assert max(times) - min(times) <= 1
            assert sum(times) == (epoch + 1) * made.counts[(0, 13, 42).index(low)]


def test_what_comes_again_is_of_another_pass() -> None:
    made = mix([10, 20, 5], [0.5, 1.0, 2.0])
    drawn = [
        (row, again)
        for epoch in range(5)
        for row, again in zip(*(values.tolist() for values in made.draw(epoch)), strict=True)
    ]
    assert len(set(drawn)) == len(drawn)
    assert {again for row, again in drawn if row >= 30} == set(range(20))


def test_an_epoch_follows_from_seed_and_number() -> None:
    first, same, later, other = (
        mix([10, 20], [1.0, 2.0], seed).draw(epoch).rows.tolist() for seed, epoch in ((1, 4), (1, 4), (1, 5), (2, 4))
    )
    assert first == same
    assert first != later and first != other


def test_files_have_orders_of_their_own() -> None:
    rows = mix([20, 20], [1.0, 1.0]).draw(0).rows.tolist()
    assert [row - 20 for row in rows[20:]] != rows[:20]


def test_a_weight_that_gives_nothing_is_refused() -> None:
    says = r"the weight 0\.001 gives b\.csv 0\.1 % of the training, and so none of the 300 examples of an epoch"
    with pytest.raises(RecipeError, match=says) as found:
        mix([100, 200], [1.0, 0.001])
    assert "Give it a greater weight" in found.value.hint
    with pytest.raises(RecipeError, match=r"the weight 1 gives a\.csv"):
        mix([100, 200], [1.0, 1e9])


def test_the_mixture_is_told_and_shown() -> None:
    made = mix([10, 5], [1.0, 2.0])
    assert made.told() == (
        "Mixture: 33.3 % of the examples from a.csv (10 rows, weight 1, 0.5 passes an epoch), "
        "66.7 % of the examples from b.csv (5 rows, weight 2, 2 passes an epoch)."
    )
    assert made.panel().rows == [["a.csv", 10, 1.0, 5, 0.3333, 0.5], ["b.csv", 5, 2.0, 10, 0.6667, 2.0]]
    counted = made.panel([12, 4])
    assert counted.rows == [["a.csv", 10, 1.0, 12, 0.75, 1.2], ["b.csv", 5, 2.0, 4, 0.25, 0.8]]
    assert counted.columns[3] == "examples of the training" and counted.note.startswith("Counted")
    assert made.panel([0, 0]).rows[0][4] == 0.0
