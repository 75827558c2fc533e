"""Errors of confidences and areas under risk, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from tests.evaluate.test_temperature import drawn
from tunesmith.evaluate import reliability
from tunesmith.evaluate.reliability import Sureness, sureness, values


def sure(confidences: list[float], right: list[float]) -> Sureness:
    """Rows by falling confidence."""
    ties = np.cumsum(np.diff(confidences, prepend=confidences[0]) != 0)
    nothing = np.zeros(len(right))
    return Sureness(np.array(confidences), np.array(right), ties, nothing, nothing)


def test_scores_as_scikit_learn_has_them() -> None:
    scores, truths = drawn(600, 1.3)
    for heat in (1.0, 2.0):
        shares = softmax(scores.astype(float) / heat, axis=1)
        found = sureness(scores, truths, heat)
        whole = values(found)
        assert whole["nll"] == pytest.approx(log_loss(truths, shares), rel=1e-9)
        assert whole["brier"] == pytest.approx(brier_score_loss(truths, shares, scale_by_half=False), rel=1e-9)
        right, mean = calibration_curve(shares.argmax(axis=1) == truths, shares.max(axis=1), n_bins=15)
        assert np.allclose(reliability.curve(found), (mean, right))
        assert (np.diff(found.confidences) <= 0).all()


def test_calibration_errors_by_hand() -> None:
    found = sure([0.99, 0.95, 0.90, 0.62, 0.55], [1, 1, 0, 1, 0])
    # Bins of 1/15: {0.99, 0.95} above 14/15; {0.90} above 13/15; {0.62} above 9/15; {0.55} above 8/15.
    expected = (abs(2 - 1.94) + 0.90 + abs(1 - 0.62) + 0.55) / 5
    assert values(found)["ece"] == pytest.approx(expected)
    # As many rows each: with fewer rows than bins each has its own.
    assert values(found)["adaptive_ece"] == pytest.approx((0.01 + 0.05 + 0.90 + 0.38 + 0.55) / 5)
    assert reliability.equal_count(31).tolist()[:5] == [0, 0, 0, 1, 1]


def test_an_edge_belongs_to_the_bin_below() -> None:
    assert reliability.equal_width(np.array([1 / 3, 0.34, 1.0])).tolist() == [4, 5, 14]


def test_one_that_is_always_sure_errs_by_its_errors() -> None:
    found = sure([1.0] * 4, [1, 0, 1, 1])
    assert values(found)["ece"] == values(found)["adaptive_ece"] == pytest.approx(0.25)


def test_one_that_is_calibrated_has_almost_no_error() -> None:
    whole = values(sureness(*drawn(100_000, 1.0)))
    assert whole["ece"] < 0.01 and whole["adaptive_ece"] < 0.01


def test_risk_and_coverage_by_hand() -> None:
    found = sure([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0])
    risks = [0, 1 / 2, 1 / 3, 1 / 4, 2 / 5]
    assert np.allclose(reliability.risks(found.right), risks)
    assert values(found)["aurc"] == pytest.approx(sum(risks) / 5)
    assert values(found)["accuracy_at_80"] == pytest.approx(3 / 4)
    assert values(found)["accuracy_at_90"] == pytest.approx(3 / 5)  # 4.5 rows: five


def test_equal_confidences_count_as_their_mean() -> None:
    one, other = sure([0.9, 0.9, 0.5], [1, 0, 1]), sure([0.9, 0.9, 0.5], [0, 1, 1])
    assert values(one) == values(other)
    assert values(one)["aurc"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)


def test_rows_that_are_drawn_stand_by_confidence() -> None:
    again = sure([0.9, 0.8, 0.8, 0.5], [1, 0, 1, 0]).at(np.array([3, 0, 3, 2]))
    assert again.confidences.tolist() == [0.9, 0.8, 0.5, 0.5] and again.right.tolist() == [1, 1, 0, 0]
    assert values(again)["aurc"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


def test_by_chance_few_rows_err_and_many_hardly() -> None:
    few, many = (reliability.by_chance(sureness(*drawn(rows, 1.0)), 0) for rows in (40, 4000))
    assert few["ece"].mean() > 0.05 > 0.02 > many["ece"].mean() > 0
    # Rows whose confidence is c: sum_b |mean of n_b errors| / …; of one bin E|mean| = sqrt(2 c (1 - c) / (pi n)).
    alone = reliability.by_chance(sure([0.75] * 400, [1.0] * 400), 0)["ece"].mean()
    assert alone == pytest.approx(np.sqrt(2 * 0.75 * 0.25 / (np.pi * 400)), rel=0.1)
