"""The retention score by hand."""

from __future__ import annotations

import math

import pytest

from tunesmith.evaluate import kept
from tunesmith.evaluate.kept import Measurement


def test_shares_by_hand() -> None:
    assert kept.of_perplexity(10.0, 20.0) == 0.5
    assert kept.of_perplexity(10.0, 5.0) == 1.0
    assert kept.of_perplexity(10.0, math.inf) == 0.0
    assert kept.of_perplexity(math.inf, 5.0) is None and kept.of_perplexity(math.nan, 5.0) is None
    assert kept.of_correlation(0.8, 0.4) == 0.5
    assert kept.of_correlation(0.8, -0.4) == 0.0
    assert kept.of_correlation(-0.1, 0.4) is None
    assert kept.of_accuracy(0.9, 0.7, 0.5) == pytest.approx(0.5)
    assert kept.of_accuracy(0.9, 0.95, 0.5) == 1.0
    assert kept.of_accuracy(0.9, 0.3, 0.5) == 0.0
    assert kept.of_accuracy(0.54, 0.54, 0.5) is None


def test_the_score_is_a_mean_over_parts_and_not_over_measurements() -> None:
    def one(part: str, share: float | None) -> Measurement:
        return Measurement(part, "x", None, None, share)

    found = [one("language", 0.2), one("probes", 1.0), one("probes", 0.8), one("probes", None), one("pairs", None)]
    assert kept.score(found) == pytest.approx((0.2 + 0.9) / 2)
    assert kept.score([one("language", None)]) is None


def test_the_interval_of_the_score_adds_squares_of_weighted_shares() -> None:
    found = [
        Measurement("probes", "one", 1.0, 0.9, 0.8, least=0.7, most=0.8),
        Measurement("probes", "two", 1.0, 0.9, 0.6, least=0.3, most=1.0),
        Measurement("similarity", "exact", None, 0.5, 0.5),
    ]
    # Two parts, the first of two measurements: weights 1/4, 1/4, 1/2.
    middle = kept.score(found)
    assert middle == pytest.approx(0.6)
    below, above = kept.interval(found) or (0, 0)
    assert below == pytest.approx(0.6 - (0.025**2 + 0.075**2) ** 0.5)
    assert above == pytest.approx(0.6 + 0.1)
    assert kept.interval(found[2:]) is None
