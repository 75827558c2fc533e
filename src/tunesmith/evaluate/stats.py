"""Intervals: how far a measured number could be from the one on endless data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95

Metrics = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def bootstrap(metrics: Metrics, truths: np.ndarray, answers: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    """Percentile intervals that hold each metric with 95 % probability (Efron, 1979).

    The rows are drawn anew with replacement, 1000 times, truths and answers together; the interval reaches from the
    2.5th to the 97.5th percentile of the metric on these draws. Draws on which a metric is undefined (NaN) are left
    out; a metric that is never defined has the interval (NaN, NaN).
    """
    draw = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        places = draw.integers(0, len(truths), len(truths))
        for name, value in metrics(truths[places], answers[places]).items():
            found.setdefault(name, []).append(value)
    tails = [(1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2]
    return {name: _quantiles(np.array(values), tails) for name, values in found.items()}


def _quantiles(values: np.ndarray, tails: list[float]) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, tails)
    return float(low), float(high)
