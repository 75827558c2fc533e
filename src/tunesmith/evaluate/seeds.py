"""What several trainings of one recipe tell, each with a seed of its own: pure functions of their figures [runs]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy
from tunesmith.evaluate.stats import CONFIDENCE, UNKNOWN, Span

distributions: Any = Lazy("scipy.stats")


def mean_interval(values: Sequence[float]) -> Span:
    """Student's interval of a mean: m -+ t s / sqrt(n), t the 97.5th percentile with n - 1 degrees of freedom and s the
    standard deviation (over n - 1); unknown for fewer than two values.
    """
    count = len(values)
    if count < 2:
        return UNKNOWN
    reach = float(distributions.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation(values) / math.sqrt(count)
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of the runs that these are a sample of (over n - 1); NaN for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def share_interval(count: int, of: int) -> Span:
    """Clopper and Pearson's interval of a share, which holds it with at least 95 % probability for any n ("The Use of
    Confidence or Fiducial Limits Illustrated in the Case of the Binomial", 1934).
    """
    found = distributions.binomtest(count, of).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def expected_best(values: Sequence[float], *, higher_is_better: bool = True) -> list[float]:
    """The expected best of k = 1, ..., n runs, drawn with replacement from the n at hand.

    With v_1 <= ... <= v_n: E[max of k] = sum_i v_i ((i / n)^k - ((i - 1) / n)^k) (Dodge et al., "Show Your Work", 2019,
    and "Fine-Tuning Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping", 2020). Where
    less is better, the same of the minimum.
    """
    sign = 1.0 if higher_is_better else -1.0
    ordered = np.sort(sign * np.asarray(values, dtype=np.float64))
    edges = np.arange(len(ordered) + 1) / len(ordered)
    return [sign * float(ordered @ np.diff(edges**k)) for k in range(1, len(ordered) + 1)]


def is_failed(value: float, baseline: float, *, higher_is_better: bool = True) -> bool:
    """Whether a run failed: its metric is undefined or no better than that of a constant answer."""
    return not (value > baseline if higher_is_better else value < baseline)


def same_spread(first: Sequence[float], second: Sequence[float]) -> float:
    """The p of Levene's test, about medians, that two recipes vary equally; NaN where either has fewer than three runs,
    or none of them varies.
    """
    if min(len(first), len(second)) < 3 or np.ptp(first) == np.ptp(second) == 0:
        return math.nan
    return float(distributions.levene(first, second, center="median").pvalue)
