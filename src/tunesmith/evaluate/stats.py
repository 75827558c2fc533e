"""Intervals: how far a measured number could be from the one on endless data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from tunesmith.core.panel import Figure

RESAMPLES = 1000
CONFIDENCE = 0.95

Metrics = Callable[[np.ndarray, np.ndarray], dict[str, float]]
Span = tuple[float, float]
UNKNOWN: Span = (math.nan, math.nan)


def bootstrap(metrics: Metrics, truths: np.ndarray, answers: np.ndarray, seed: int) -> dict[str, Span]:
    """Percentile intervals that hold each metric with 95 % probability (Efron, 1979).

    The rows are drawn anew with replacement, 1000 times, truths and answers together; the interval reaches from the
    2.5th to the 97.5th percentile of the metric on these draws. Draws on which a metric is undefined (NaN) are left
    out; a metric that is never defined has the interval (NaN, NaN).
    """
    draws = resampled(lambda places: metrics(truths[places], answers[places]), seed, len(truths))
    return {name: interval(values) for name, values in draws.items()}


def resampled(measure: Callable[..., Mapping[str, float]], seed: int, *rows: int) -> dict[str, np.ndarray]:
    """What `measure` gives on every draw of a bootstrap, by name [draws]. It takes the places drawn of each set of so
    many `rows`; the sets are drawn independently of each other.

    Two sets that were resampled apart, with different seeds, are compared by the difference of their draws.
    """
    draw = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        for name, value in measure(*(draw.integers(0, count, count) for count in rows)).items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def interval(draws: np.ndarray, around: float | None = None) -> Span:
    """From the 2.5th to the 97.5th percentile of draws [draws], those that are NaN left out; with `around` moved, so
    that their mean is that value: for what drawing rows again makes larger by itself.
    """
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return UNKNOWN
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2])
    moved = 0.0 if around is None else around - float(defined.mean())
    return float(low) + moved, float(high) + moved


def figures(values: Mapping[str, float], spans: Mapping[str, Span], split: str, subject: str = "model") -> list[Figure]:
    """The values as figures with their intervals, where they have one; values that are undefined are left out."""
    found = []
    for name, value in values.items():
        if math.isfinite(value):
            low, high = spans.get(name, UNKNOWN)
            found.append(Figure(name, value, split, subject, _defined(low), _defined(high)))
    return found


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
