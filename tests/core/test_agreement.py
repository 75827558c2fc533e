"""Metrics equal those of scikit-learn and SciPy, on draws that also miss classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef

from tunesmith.core import agreement

DRAWS = [(seed, rows, classes) for seed, rows, classes in ((0, 200, 3), (1, 5, 4), (2, 40, 2), (3, 60, 30), (4, 3, 9))]


@pytest.mark.parametrize(("seed", "rows", "classes"), DRAWS)
def test_classes(seed: int, rows: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    truths = draw.integers(0, classes, rows)
    answers = np.where(draw.random(rows) < 0.5, truths, draw.integers(0, classes, rows))
    matrix = agreement.confusion(truths, answers, classes)
    assert np.array_equal(matrix, confusion_matrix(truths, answers, labels=range(classes)))
    expected = f1_score(truths, answers, labels=np.unique(truths), average="macro", zero_division=0)
    assert agreement.macro_f1(matrix) == pytest.approx(expected)
    assert agreement.matthews(matrix) == pytest.approx(matthews_corrcoef(truths, answers))


@pytest.mark.parametrize("right", [True, False])
def test_one_class_alone(right: bool) -> None:
    truths = np.zeros(4, dtype=np.int64)
    matrix = agreement.confusion(truths, truths if right else truths + 1, 2)
    assert agreement.macro_f1(matrix) == (1.0 if right else 0.0)
    assert agreement.matthews(matrix) == 0.0


@pytest.mark.parametrize(("seed", "rows", "classes"), DRAWS)
def test_sets_of_classes(seed: int, rows: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    truths, answers = draw.random((rows, classes)) < 0.3, draw.random((rows, classes)) < 0.3
    truths[:, 0] = answers[:, 0] = False
    micro, macro = agreement.set_f1(truths, answers)
    assert micro == pytest.approx(f1_score(truths, answers, average="micro", zero_division=0))
    assert macro == pytest.approx(f1_score(truths, answers, average="macro", zero_division=0))


def test_empty_sets() -> None:
    none = np.zeros((3, 2), dtype=bool)
    assert agreement.set_f1(none, none) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_correlations(seed: int) -> None:
    draw = np.random.default_rng(seed)
    truths = draw.integers(0, 6, 40).astype(float)  # with ties
    answers = truths + draw.normal(0, 2, 40)
    assert agreement.pearson(truths, answers) == pytest.approx(pearsonr(truths, answers).statistic)
    assert agreement.spearman(truths, answers) == pytest.approx(spearmanr(truths, answers).statistic)
    assert agreement.spearman(truths, np.exp(truths)) == pytest.approx(1)


@pytest.mark.parametrize("answers", [[2.0, 2.0, 2.0], [0.1 + 0.2, 0.3, 0.3]])
def test_a_correlation_with_a_constant_is_not_defined(answers: list[float]) -> None:
    constant = np.full(3, answers[0])
    assert math.isnan(agreement.pearson(np.array([1.0, 2.0, 4.0]), constant))
    assert math.isnan(agreement.spearman(constant, np.array([1.0, 2.0, 4.0])))
    assert math.isnan(agreement.pearson(np.array([1.0]), np.array([2.0])))
