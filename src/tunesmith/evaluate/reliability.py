"""Whether confidences are right, and what they are good for: the figures of `calibration` as functions of arrays.

A row's confidence is its highest probability; it is right where that class is the true one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunesmith.evaluate import stats, temperature

BINS = 15
COVERAGES = (80, 90)
"""Per cent of the rows, the surest, whose accuracy is told."""


@dataclass(frozen=True)
class Sureness:
    """Rows by falling confidence; every field [rows].

    right: 1 or 0. ties: numbers that rise with the rows, equal where confidences are. brier: sum_k (p_k - [k = y])^2.
    loss: -log p_y.
    """

    confidences: np.ndarray
    right: np.ndarray
    ties: np.ndarray
    brier: np.ndarray
    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.confidences)

    def at(self, places: np.ndarray) -> Sureness:
        """The rows at these places, each as often as it is there, by falling confidence again."""
        order = np.repeat(np.arange(len(self)), np.bincount(places, minlength=len(self)))
        return Sureness(
            self.confidences[order], self.right[order], self.ties[order], self.brier[order], self.loss[order]
        )


def sureness(scores: np.ndarray, truths: np.ndarray, heat: float = 1.0) -> Sureness:
    """Confidences of scores [rows, classes] at a temperature, beside the true classes [rows]."""
    confidences, brier = np.empty(len(scores)), np.empty(len(scores))
    for part, some in temperature.blocks(scores, heat):
        shares = temperature.special.softmax(some, axis=1)  # [some rows, classes]
        confidences[part] = shares.max(axis=1)
        brier[part] = (shares**2).sum(axis=1) - 2 * shares[np.arange(len(some)), truths[part]] + 1
    right = (scores.argmax(axis=1) == truths).astype(float)
    order = np.argsort(-confidences, kind="stable")
    confidences = confidences[order]
    ties = np.cumsum(np.diff(confidences, prepend=confidences[:1]) != 0)
    return Sureness(confidences, right[order], ties, brier[order], temperature.losses(scores, truths, heat)[order])


def values(found: Sureness) -> dict[str, float]:
    """Every figure of rows."""
    smooth = tied(found)
    covered = {f"accuracy_at_{share}": float(smooth[: -(-len(found) * share // 100)].mean()) for share in COVERAGES}
    return {
        "ece": binned_error(found.confidences, found.right, equal_width(found.confidences)),
        "adaptive_ece": binned_error(found.confidences, smooth, equal_count(len(found))),
        "brier": float(found.brier.mean()),
        "nll": float(found.loss.mean()),
        "aurc": float(risks(smooth).mean()),
        **covered,
    }


def equal_width(confidences: np.ndarray) -> np.ndarray:
    """The number of each row's bin [rows], of 15 of equal width, each with its upper edge."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidences)


def equal_count(rows: int) -> np.ndarray:
    """The number of each row's bin [rows], of 15 with as many rows each, where rows stand by confidence."""
    return np.arange(rows) * BINS // rows


def binned_error(confidences: np.ndarray, right: np.ndarray, bins: np.ndarray) -> float:
    """The expected calibration error: sum over bins b of n_b / n |mean right_b - mean confidence_b|, from arrays
    [rows].
    """
    return float(np.abs(np.bincount(bins, weights=right - confidences)).sum() / len(bins))


def curve(found: Sureness) -> tuple[np.ndarray, np.ndarray]:
    """The mean confidence and the share of right rows of every bin of equal width that has rows, [bins with rows]."""
    bins = equal_width(found.confidences)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.stack([np.bincount(bins, weights=one, minlength=BINS) for one in (found.confidences, found.right)])
    sure, right = (sums[:, counts > 0] / counts[counts > 0]).tolist()
    return np.array(sure), np.array(right)


def tied(found: Sureness) -> np.ndarray:
    """The share of right rows among those of the same confidence [rows]: what to expect of any order of them."""
    sums = np.bincount(found.ties, weights=found.right)
    shares: np.ndarray = (sums / np.maximum(np.bincount(found.ties), 1))[found.ties]
    return shares


def risks(right: np.ndarray) -> np.ndarray:
    """The share of wrong rows among the first k, for every k, from `right` [rows] by falling confidence; its mean is
    the area under the risk-coverage curve.
    """
    found: np.ndarray = (1 - right).cumsum() / np.arange(1, len(right) + 1)
    return found


def by_chance(found: Sureness, seed: int) -> dict[str, np.ndarray]:
    """The calibration errors [draws] that rows of these confidences would have if each were right with just that
    probability: what so few rows make of a perfectly calibrated model (Bröcker and Smith, "Increasing the Reliability
    of Reliability Diagrams", 2007).
    """
    draw = np.random.default_rng(seed)
    bins = {"ece": equal_width(found.confidences), "adaptive_ece": equal_count(len(found))}
    drawn: dict[str, list[float]] = {name: [] for name in bins}
    for _ in range(stats.RESAMPLES):
        right = (draw.random(len(found)) < found.confidences).astype(float)
        for name, numbers in bins.items():
            drawn[name].append(binned_error(found.confidences, right, numbers))
    return {name: np.array(errors) for name, errors in drawn.items()}
