"""Paired tests against SciPy's, and Holm's correction by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm, permutation_test

from tunesmith.core import agreement
from tunesmith.evaluate import paired, stats
from tunesmith.tasks import classes


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ() -> None:
    first = np.array([True] * 30 + [True] * 14 + [False] * 5 + [False] * 20)
    second = np.array([True] * 30 + [False] * 14 + [True] * 5 + [False] * 20)
    assert paired.mcnemar(first, second) == pytest.approx(binomtest(14, 19, 0.5).pvalue)
    assert paired.mcnemar(first, second) == paired.mcnemar(second, first)
    # By hand: 1 of 4 or fewer, on both sides: 2 (1 + 4) / 16.
    assert paired.mcnemar(np.array([1, 0, 0, 0], bool), np.array([0, 1, 1, 1], bool)) == pytest.approx(10 / 16)
    assert paired.mcnemar(first, first) == 1


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    return values.mean(axis=axis)


def test_few_signs_are_all_counted() -> None:
    differences = np.random.default_rng(0).normal(0.6, 1, 10)
    expected = permutation_test((differences,), mean, permutation_type="samples", n_resamples=np.inf, vectorized=True)
    assert paired.sign_flip(differences, 0) == pytest.approx(expected.pvalue)
    # Rows without a difference say nothing.
    assert paired.sign_flip(np.append(differences, np.zeros(500)), 0) == paired.sign_flip(differences, 0)
    assert paired.sign_flip(np.zeros(5), 0) == 1


def test_equal_sums_count_whatever_the_order_of_their_terms() -> None:
    # All signs of 0.1, 0.2, 0.3 are less than or equal to 0.6: only two of eight reach it, by hand.
    assert paired.sign_flip(np.array([0.1, 0.2, 0.3]), 0) == pytest.approx(2 / 8)


def test_of_many_signs_some_are_drawn() -> None:
    differences = np.random.default_rng(1).normal(0.15, 1, 200)
    expected = permutation_test(
        (differences,), mean, permutation_type="samples", n_resamples=9999, vectorized=True,
        rng=np.random.default_rng(5),
    ).pvalue  # fmt: skip
    assert paired.sign_flip(differences, 0) == pytest.approx(expected, abs=0.012)
    assert paired.sign_flip(differences, 0) == paired.sign_flip(differences, 0)


def test_blocks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(1).normal(0.15, 1, 50)
    whole = paired.sign_flip(differences, 0)
    monkeypatch.setattr(paired, "AT_ONCE", 5000)
    assert paired.sign_flip(differences, 0) == pytest.approx(whole, abs=0.012)


def test_swapped_answers_give_the_sign_flips_p_where_the_metric_is_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    first, second = draw.normal(0.2, 1, 60), draw.normal(0, 1, 60)
    monkeypatch.setattr(stats, "RESAMPLES", 4000)
    found = paired.swapped(lambda values: float(values.mean()), first, second, 0)
    assert found == pytest.approx(paired.sign_flip(first - second, 0), abs=0.025)
    assert paired.swapped(lambda values: float(values.mean()), first, first, 0) == 1


def test_a_metric_over_all_rows_is_tested_by_swapping() -> None:
    draw = np.random.default_rng(3)
    truths = draw.integers(0, 3, 150)
    good = np.where(draw.random(150) < 0.9, truths, (truths + 1) % 3)
    poor = np.where(draw.random(150) < 0.6, truths, (truths + 1) % 3)

    def macro_f1(answers: np.ndarray) -> float:
        return agreement.macro_f1(agreement.confusion(truths, answers, 3))

    assert paired.swapped(macro_f1, good, poor, 0) == pytest.approx(1 / (1 + stats.RESAMPLES))


def test_holm_by_hand() -> None:
    # Ordered: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.04 * 1; none falls below the one before it.
    assert paired.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert paired.holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert paired.holm([0.2]) == [0.2] and paired.holm([]) == []


def test_the_smallest_difference_is_that_of_the_normal_power_formula() -> None:
    assert paired.smallest(0.01) == pytest.approx(0.01 * (norm.ppf(0.975) + norm.ppf(0.8)))
    assert paired.smallest(0.01, tests=3) == pytest.approx(0.01 * (norm.ppf(1 - 0.025 / 3) + norm.ppf(0.8)))
    assert paired.smallest(0.01, freedom=4) > paired.smallest(0.01)


def test_a_mean_is_told_from_what_is_none() -> None:
    truths, answers = np.array([0, 1, 2, 1] * 40), np.array([0, 1, 1, 1] * 40)

    def metrics(truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        return classes.metrics(truths, answers, 3)

    right = paired.by_row(metrics, "accuracy", truths, answers)
    assert right is not None and right.tolist() == (truths == answers).tolist()
    assert paired.by_row(metrics, "macro_f1", truths, answers) is None
    assert paired.by_row(metrics, "matthews", truths, answers) is None


def test_a_metric_that_one_row_does_not_have_is_no_mean() -> None:
    def never(truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        return {"r": math.nan if len(truths) < 2 else 0.5}

    assert paired.by_row(never, "r", np.zeros(5), np.zeros(5)) is None
