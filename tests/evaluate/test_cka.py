"""Linear CKA: its definition, what it does not see, and its bias with few rows."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from tunesmith.evaluate.cka import cka, is_plenty, linear, unbiased

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(200, 5))
BOTH = pytest.mark.parametrize("measure", [linear, unbiased])


def test_it_is_the_normalised_hsic_of_centred_products() -> None:
    x, y = X[:20], X[:20] ** 2 @ DRAW.normal(size=(5, 3))
    centre = np.eye(20) - 1 / 20
    k, other = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = np.trace(k @ other) / math.sqrt(np.trace(k @ k) * np.trace(other @ other))
    assert linear(x, y) == pytest.approx(expected)


def test_the_estimate_without_bias_is_the_mean_over_four_rows() -> None:
    # Gretton et al. 2005, theorem 1, with each expectation a mean over rows that all differ.
    x, y = X[:6, :2], X[:6, 2:] ** 2

    def hsic(k: np.ndarray, other: np.ndarray) -> float:
        terms = [k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in permutations(range(6), 4)]
        return float(np.mean(terms))

    k, other = x @ x.T, y @ y.T
    assert unbiased(x, y) == pytest.approx(hsic(k, other) / math.sqrt(hsic(k, k) * hsic(other, other)))


@BOTH
def test_rotations_scales_and_shifts_change_nothing_but_other_maps_do(measure: object) -> None:
    assert callable(measure)
    rotation = np.linalg.qr(DRAW.normal(size=(5, 5)))[0]
    assert measure(X, X) == pytest.approx(1)
    assert measure(X, 3 * X @ rotation + 7) == pytest.approx(1)
    assert measure(X, X * [1, 1, 1, 1, 30]) < 0.6


@BOTH
def test_unrelated_features_have_nothing_in_common(measure: object) -> None:
    assert callable(measure)
    assert abs(measure(DRAW.normal(size=(3000, 4)), DRAW.normal(size=(3000, 4)))) < 0.01


def test_with_few_rows_the_plain_estimate_is_far_off_and_not_taken() -> None:
    x, y = DRAW.normal(size=(40, 400)), DRAW.normal(size=(40, 400))
    assert linear(x, y) > 0.8
    assert abs(unbiased(x, y)) < 0.1
    assert cka(x, y) == unbiased(x, y)
    assert cka(X, X[:, :3]) == linear(X, X[:, :3])
    assert is_plenty(10, 5) and not is_plenty(9, 5)


@BOTH
def test_rows_that_do_not_differ_have_none(measure: object) -> None:
    assert callable(measure)
    assert math.isnan(measure(X, np.ones((200, 5))))
    assert math.isnan(unbiased(X[:3], X[:3]))
