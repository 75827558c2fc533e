"""Bootstrap intervals against SciPy's and against the analytical ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm

from tests import toy
from tunesmith.evaluate import stats
from tunesmith.evaluate.stats import bootstrap
from tunesmith.tasks.classify import Classify


def accuracy(truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    return {"accuracy": float((truths == answers).mean())}


def test_the_interval_of_an_accuracy_is_the_binomial_one() -> None:
    truths = np.zeros(400, dtype=int)
    answers = (np.arange(400) >= 320).astype(int)  # 80 % right
    low, high = bootstrap(accuracy, truths, answers, seed=0)["accuracy"]
    half = norm.ppf(0.975) * math.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - half, abs=0.006)
    assert high == pytest.approx(0.8 + half, abs=0.006)


def test_the_interval_is_that_of_scipy() -> None:
    draw = np.random.default_rng(3)
    truths = draw.normal(size=120)
    answers = truths + draw.normal(size=120)

    def correlation(truths: np.ndarray, answers: np.ndarray) -> float:
        return float(np.corrcoef(truths, answers)[0, 1])

    low, high = bootstrap(lambda a, b: {"r": correlation(a, b)}, truths, answers, seed=0)["r"]
    expected = scipy_bootstrap(
        (truths, answers), correlation, paired=True, vectorized=False, n_resamples=4000, method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert low == pytest.approx(expected.low, abs=0.02)
    assert high == pytest.approx(expected.high, abs=0.02)


def test_it_follows_the_seed() -> None:
    truths = np.arange(50) % 3
    answers = np.arange(50) % 2
    found = [bootstrap(accuracy, truths, answers, seed)["accuracy"] for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_draws_on_which_a_metric_is_not_defined_are_left_out() -> None:
    def sometimes(truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        return {"mean": float(truths.mean()) if truths[0] else math.nan, "never": math.nan}

    found = bootstrap(sometimes, np.array([0.0, 1.0, 1.0, 1.0]), np.zeros(4), seed=0)
    assert 0 < found["mean"][0] < found["mean"][1] <= 1
    assert all(math.isnan(bound) for bound in found["never"])


def test_truths_and_answers_are_drawn_together() -> None:
    truths = np.arange(30) % 4
    assert bootstrap(accuracy, truths, truths, seed=0)["accuracy"] == (1.0, 1.0)


def test_the_tasks_metrics_are_quick() -> None:
    task = Classify()
    task.learn({"label": name} for name in toy.CLASSES)
    draw = np.random.default_rng(0)
    found = bootstrap(task.metrics, draw.integers(0, 3, 3000), draw.integers(0, 3, 3000), seed=0)
    assert set(found) == {"accuracy", "macro_f1", "matthews"}
    assert all(low < high for low, high in found.values())


def test_sets_that_are_compared_are_drawn_independently() -> None:
    first, second = np.arange(300) < 240, np.arange(200) < 120  # 80 % and 60 %
    draws = stats.resampled(
        lambda one, other: {"difference": float(second[other].mean() - first[one].mean())}, 0, len(first), len(second)
    )
    half = norm.ppf(0.975) * math.sqrt(0.8 * 0.2 / 300 + 0.6 * 0.4 / 200)
    assert stats.interval(draws["difference"]) == pytest.approx((-0.2 - half, -0.2 + half), abs=0.01)


def test_an_interval_may_be_moved_to_its_value() -> None:
    draws = np.linspace(1, 2, 1001)
    assert stats.interval(draws) == pytest.approx((1.025, 1.975))
    assert stats.interval(draws, around=1.2) == pytest.approx((0.725, 1.675))


def test_figures_without_a_value_are_left_out() -> None:
    found = stats.figures({"a": 0.5, "b": math.nan, "c": 1.0}, {"a": (0.4, 0.6), "c": (math.nan, math.nan)}, "test")
    assert [(one.name, one.subject, one.low, one.high) for one in found] == [
        ("a", "model", 0.4, 0.6),
        ("c", "model", None, None),
    ]
