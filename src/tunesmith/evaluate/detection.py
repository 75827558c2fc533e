"""Rows that belong to no class: how well a score tells them from a task's own rows.

Every score is higher the more a row looks like the task's own ("inside"); outside rows should have lower ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy
from tunesmith.evaluate import temperature

covariance: Any = Lazy("sklearn.covariance")

ACCEPTED = 95
"""Per cent of the inside rows that the threshold of `fpr_at_95` accepts."""


def energies(scores: np.ndarray) -> np.ndarray:
    """log sum_k exp z_k [rows] of scores z [rows, classes]: the energy of Liu, Wang, Owens, Li, "Energy-based
    Out-of-distribution Detection", 2020, at temperature 1, with its sign turned.
    """
    found = np.empty(len(scores))
    for part, some in temperature.blocks(scores):
        found[part] = temperature.special.logsumexp(some, axis=1)
    return found


def probabilities(scores: np.ndarray) -> np.ndarray:
    """The logarithm of the highest probability, max_k z_k - log sum_k exp z_k [rows] (Hendrycks and Gimpel, "A Baseline
    for Detecting Misclassified and Out-of-Distribution Examples", 2017): it orders rows as the probability does, and
    tells apart those that are all but certain.
    """
    found: np.ndarray = scores.max(axis=1).astype(np.float64) - energies(scores)
    return found


@dataclass(frozen=True)
class Clouds:
    """One normal distribution a class, all with one covariance S, in coordinates in which S is the unit matrix.

    whitening: [hidden, hidden], the Cholesky factor of the inverse of S. means: [classes, hidden], in the new
    coordinates.
    """

    whitening: np.ndarray
    means: np.ndarray

    def nearness(self, features: np.ndarray) -> np.ndarray:
        """-min_c (f - m_c)' S^-1 (f - m_c), [rows], of features f [rows, hidden]."""
        white = features.astype(np.float64) @ self.whitening  # [rows, hidden]
        squares = (white**2).sum(axis=1, keepdims=True) + (self.means**2).sum(axis=1) - 2 * white @ self.means.T
        nearest: np.ndarray = squares.min(axis=1)  # of [rows, classes]
        return -nearest


def clouds(features: np.ndarray, truths: np.ndarray) -> Clouds:
    """The classes' means and their common covariance, from training features [rows, hidden] and classes [rows].

    After Lee, Lee, Lee, Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018. We take the
    last layer alone, change no input, and shrink the covariance (Ledoit and Wolf, 2004): rows may be fewer than hidden
    numbers.
    """
    classes, numbers = np.unique(truths, return_inverse=True)
    exact = features.astype(np.float64)
    means = np.stack([exact[numbers == place].mean(axis=0) for place in range(len(classes))])
    common, _ = covariance.ledoit_wolf(exact - means[numbers], assume_centered=True)
    whitening = np.linalg.cholesky(np.linalg.inv(common))
    return Clouds(whitening, means @ whitening)


@dataclass(frozen=True)
class Ranked:
    """Scores as ranks among all, equal ones with one rank: inside [rows], outside [other rows], below `levels`."""

    inside: np.ndarray
    outside: np.ndarray
    levels: int


def ranked(inside: np.ndarray, outside: np.ndarray) -> Ranked:
    """The ranks of two arrays of scores."""
    found, ranks = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    return Ranked(ranks[: len(inside)], ranks[len(inside) :], len(found))


def accepted(ranks: np.ndarray, levels: int) -> np.ndarray:
    """How many rows have at least the rank of each level, from the highest level on [levels]."""
    return np.bincount(ranks, minlength=levels)[::-1].cumsum()


def separation(found: Ranked) -> dict[str, float]:
    """AUROC: the probability that an inside row scores higher than an outside one, ties counting half. FPR at 95: the
    share of outside rows that are accepted where 95 % of the inside rows are.
    """
    inside, outside = accepted(found.inside, found.levels), accepted(found.outside, found.levels)
    rows, others = len(found.inside), len(found.outside)
    own = np.diff(inside, prepend=0)
    lower = others - (outside + np.concatenate([[0], outside[:-1]])) / 2  # outside rows below, and half of those beside
    level = np.searchsorted(inside, -(-ACCEPTED * rows // 100))
    return {"auroc": float(own @ lower / (rows * others)), "fpr_at_95": float(outside[level] / others)}
