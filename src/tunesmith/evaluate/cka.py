"""Linear CKA: how alike two sets of features of the same examples are, whatever their axes and scales.

After Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019. 1 is the same up to a rotation
and one factor, 0 nothing in common.
"""

from __future__ import annotations

import math

import numpy as np

FEW = 4
"""The fewest examples for which the estimate without bias is defined."""


def linear(x: np.ndarray, y: np.ndarray) -> float:
    """||Y^T X||^2 / (||X^T X|| ||Y^T Y||) of centred features x [rows, p] and y [rows, q], in Frobenius norms.

    With few rows it is far from 0 for unrelated features: about 1 for fewer rows than features. NaN where the rows of
    one do not differ.
    """
    x, y = (one.astype(np.float64) - one.mean(axis=0, dtype=np.float64) for one in (x, y))
    sizes = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / sizes) if sizes else math.nan


def unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """The same with estimates of HSIC that have no bias, for any number of rows from 4 on: K·L / sqrt(K·K L·L).

    K·L = (tr(KL) + sum(K) sum(L) / ((n-1)(n-2)) - 2 / (n-2) * sum(KL)) / (n(n-3)), with K = X X^T and L = Y Y^T
    [rows, rows] without their diagonals (Song et al., "Feature Selection via Dependence Maximization", 2012). It may be
    a little below 0. NaN where the rows of one do not differ, and of fewer than 4.
    """
    if len(x) < FEW:
        return math.nan
    k, other = _products(x), _products(y)
    sizes = _hsic(k, k) * _hsic(other, other)
    return float(_hsic(k, other) / math.sqrt(sizes)) if sizes > 0 else math.nan


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """`linear` where there are at least twice as many rows as features, `unbiased` where there are fewer."""
    return linear(x, y) if is_plenty(len(x), max(x.shape[1], y.shape[1])) else unbiased(x, y)


def is_plenty(rows: int, features: int) -> bool:
    """Whether there are rows enough for the plain estimate."""
    return rows >= 2 * features


def _products(x: np.ndarray) -> np.ndarray:
    # Centred first: what the features have in common would else cost digits.
    x = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    found: np.ndarray = x @ x.T
    np.fill_diagonal(found, 0.0)
    return found


def _hsic(k: np.ndarray, other: np.ndarray) -> float:
    rows = len(k)
    sums = k.sum(axis=0), other.sum(axis=0)
    found = (k * other).sum()  # the trace of K L: both are symmetric
    found += sums[0].sum() * sums[1].sum() / ((rows - 1) * (rows - 2))
    found -= 2 / (rows - 2) * (sums[0] @ sums[1])
    return float(found / (rows * (rows - 3)))
