"""What figures come to: every grade by its limits, at and beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunesmith.core.panel import Grade, Verdict
from tunesmith.evaluate import verdicts
from tunesmith.evaluate.shift import Measured
from tunesmith.evaluate.verdicts import Estimate


def share(value: float, low: float, high: float) -> list[Verdict]:
    """The verdicts on a share that is lost."""
    lost = Estimate(value, low, high)
    return [
        verdicts.generalises("f1", "test", lost, True),
        verdicts.carries_over("f1", "test", "2025", lost),
        verdicts.robust("f1", lost),
    ]


@pytest.mark.parametrize(
    ("bounds", "grade"),
    [
        ((-0.02, 0.04), "good"),
        ((0.05, 0.15), "good"),
        ((0.051, 0.12), "mixed"),
        ((0.06, 0.4), "mixed"),
        ((0.16, 0.3), "bad"),
        ((0.01, 0.16), "unknown"),
        ((math.nan, math.nan), "unknown"),
    ],
)
def test_a_loss_is_judged_by_its_interval(bounds: tuple[float, float], grade: Grade) -> None:
    found = share(float(np.mean(bounds)), *bounds)
    assert [one.grade for one in found] == [grade] * 3
    assert [one.aspect for one in found] == ["generalises", "generalises", "robust"]
    assert all("5 %" in one.rule and "15 %" in one.rule for one in found)


def test_a_share_is_lost_where_lower_is_better_too() -> None:
    before, after = np.array([0.8, 0.0]), np.array([0.6, 0.5])
    assert verdicts.share_lost(before, after, True).tolist() == pytest.approx([0.25, math.nan], nan_ok=True)
    assert verdicts.share_lost(np.array([20.0]), np.array([30.0]), False).tolist() == [0.5]
    some = Measured({"f1": 0.8}, {"f1": np.full(10, 0.8)}), Measured({"f1": 0.6}, {"f1": np.linspace(0.4, 0.8, 10)})
    lost = verdicts.lost(*some, "f1", True)
    assert lost.value == pytest.approx(0.25) and lost.low < 0.25 < lost.high


@pytest.mark.parametrize(
    ("ahead", "rows", "word"),
    [
        (Estimate(0.1, 0.01, 0.2), 50, "Learned"),
        (Estimate(0.1, 0.0, 0.2), 50, "Did not learn"),
        (Estimate(0.05, -0.05, 0.15), 50, "Did not learn"),
        (Estimate(-0.3, -0.4, -0.2), 50, "Did not learn"),
        (Estimate(0.5, 0.4, 0.6), 9, "Learned?"),
        (Estimate(math.nan), 50, "Learned?"),
    ],
)
def test_learned_is_what_chance_does_not_explain(ahead: Estimate, rows: int, word: str) -> None:
    found = verdicts.learned("accuracy", "most frequent class", ahead, rows, "test")
    assert found.word == word and "most frequent class" in found.figure
    assert found.value == (None if math.isnan(ahead.value) else ahead.value)


@pytest.mark.parametrize(
    ("ahead", "rows", "word"),
    [
        (Estimate(0.1, 0.01, 0.2), 50, "Worth its training"),
        (Estimate(0.1, 0.0, 0.2), 50, "Worth its training?"),
        (Estimate(-0.1, -0.2, 0.0), 50, "Worth its training?"),
        (Estimate(-0.1, -0.2, -0.01), 50, "Not worth its training"),
        (Estimate(-0.1, -0.2, -0.01), 9, "Worth its training?"),
        (Estimate(math.nan), 50, "Worth its training?"),
    ],
)
def test_a_training_is_worth_what_it_is_ahead_of_the_strongest(ahead: Estimate, rows: int, word: str) -> None:
    found = verdicts.worth("accuracy", "neighbours", ahead, rows, "test")
    assert found.word == word and "neighbours" in found.said and found.support
    assert found.grade == ("unknown" if word.endswith("?") else "bad" if word.startswith("Not") else "good")


def test_what_did_not_learn_does_not_generalise() -> None:
    found = verdicts.generalises("accuracy", "test", Estimate(0.0, -0.02, 0.02), False)
    assert found.grade == "unknown" and "did not learn" in found.said
    learned_by_heart = verdicts.generalises("accuracy", "test", Estimate(0.4, 0.3, 0.5), False)
    assert learned_by_heart.word == "Overfitted"


def test_kept_and_moved_by_their_limits() -> None:
    assert [verdicts.kept(Estimate(score)).grade for score in (0.9, 0.89, 0.7, 0.69)] == [
        "good",
        "mixed",
        "mixed",
        "bad",
    ]
    moved = [verdicts.moved(likeness, 100) for likeness in (0.9, 0.5, 0.49, math.nan)]
    assert [one.grade for one in moved] == ["good", "mixed", "bad", "unknown"]
    assert all(one.support for one in moved) and not verdicts.kept(Estimate(1.0)).support


@pytest.mark.parametrize(
    ("error", "by_chance", "excess", "word"),
    [
        # No greater than right confidences give by chance.
        (Estimate(0.06, 0.04, 0.08), 0.07, 0.01, "Calibrated"),
        # Greater, and small all the same.
        (Estimate(0.03, 0.02, 0.04), 0.02, 0.03, "Calibrated"),
        (Estimate(0.08, 0.06, 0.11), 0.03, 0.08, "Somewhat overconfident"),
        (Estimate(0.2, 0.15, 0.25), 0.03, 0.2, "Overconfident"),
        (Estimate(0.2, 0.15, 0.25), 0.03, -0.2, "Underconfident"),
        # So few rows that right confidences give as much.
        (Estimate(0.12, 0.05, 0.2), 0.15, 0.1, "Calibrated?"),
        (Estimate(0.3), 0.1, 0.3, "Calibrated?"),
    ],
)
def test_calibrated_beyond_chance_and_by_size(error: Estimate, by_chance: float, excess: float, word: str) -> None:
    assert verdicts.calibrated(error, by_chance, excess).word == word


def test_every_verdict_says_its_rule() -> None:
    found = [
        *share(0.0, -0.1, 0.1),
        verdicts.learned("f1", "a rival", Estimate(0.1, 0.0, 0.2), 20, "test"),
        verdicts.worth("f1", "a rival", Estimate(0.1, 0.0, 0.2), 20, "test"),
        verdicts.kept(Estimate(0.8)),
        verdicts.moved(0.8, 10),
        verdicts.calibrated(Estimate(0.2, 0.1, 0.3), 0.1, 0.1),
    ]
    assert all(one.rule and one.said and one.word and one.figure for one in found)
