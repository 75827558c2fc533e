"""Metric by training rows, and what twice of them would add."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests.evaluate import ruled
from tests.evaluate.test_stability import Right, finished
from tunesmith.core.finished import Further
from tunesmith.core.panel import Lines
from tunesmith.evaluate import learning_curve, stats
from tunesmith.evaluate.task import Task

TRAIN = Dataset.from_list([{"text": "0", "label": "cancel"}] * 40)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 200)


class Shares:
    """Trains on shares: a model that has so many rows right."""

    def __init__(self, right: Mapping[float, int]) -> None:
        self.right, self.asked = right, list[str]()

    def __call__(self, name: str, changes: Mapping[str, Any], *, share: float = 1.0) -> Further:
        assert changes == {} and share < 1
        self.asked.append(name)
        if share not in self.right:
            return Further(name, failed="no such thing")
        return Further(name, Right(self.right[share]), 1.0, 5)  # type: ignore[arg-type]


def test_the_curve_and_its_last_slope() -> None:
    again = Shares({0.1: 3, 0.25: 6})
    seen = finished(again, right=8, splits=("test",), train=lambda: TRAIN)
    figures, (panel,) = learning_curve.measured(seen, "test", [0.25, 1.0, 0.1])
    assert again.asked == ["share-0.1", "share-0.25"]
    assert isinstance(panel, Lines) and panel.series == {"model": ([4, 10, 40], [0.3, 0.6, 0.8])}
    gain = next(one for one in figures if one.name == "gain_of_twice_the_rows")
    # Ten to forty rows are two doublings: (0.8 - 0.6) / 2.
    assert gain.value == pytest.approx(0.1)
    assert gain.low is not None and gain.high is not None and 0 <= gain.low < 0.1 < gain.high
    assert "twice the rows would change accuracy by +0.1 (" in panel.note
    assert {one.subject for one in figures if one.name == "accuracy"} == {
        "4 training rows", "10 training rows", "40 training rows",
    }  # fmt: skip


def test_the_interval_of_the_slope_draws_both_points_together() -> None:
    truths = np.zeros(50, dtype=int)
    answers = (np.arange(50) % 2).astype(int)
    same, span = learning_curve.doubled(ruled.task(), truths, (10, answers), (20, answers), 0)
    assert (same, span) == (0.0, (0.0, 0.0))
    better, _ = learning_curve.doubled(ruled.task(), truths, (10, answers), (80, truths), 0)
    assert better == pytest.approx(0.5 / math.log2(8))


def test_what_could_not_be_trained_is_told() -> None:
    seen = finished(Shares({}), splits=("test",), train=lambda: TRAIN)
    figures, (why, curve) = learning_curve.measured(seen, "test", [0.1, 1.0])
    assert why.rows == [["Because no such thing."]] and isinstance(curve, Lines)  # type: ignore[union-attr]
    assert not any(one.name == "gain_of_twice_the_rows" for one in figures)
    _, (why,) = learning_curve.measured(finished(None, train=lambda: None), "test", [0.1])
    assert why.rows == [["Because the training rows are not at hand."]]  # type: ignore[union-attr]


def test_the_suite_has_it_where_it_is_asked_for() -> None:
    more = {"train": lambda: TRAIN, "untrained": lambda split: Right(1).predict(seen.splits[split]),
            "lines": lambda split, places: [{}] * len(places)}  # fmt: skip
    seen = finished(Shares({0.5: 6}), splits=("test",), **more)
    plain = Task().measure(seen)
    suite = Task(learning_curve=[0.5, 1.0], by_class=True, by_length=True, by_confidence=True, slices=["shop"])
    found = suite.measure(seen)
    assert found.figures[: len(plain.figures)] == plain.figures
    titles = [panel.title for panel in found.panels[len(plain.panels) :]]
    assert titles == [
        "Slices by shop: not measured",
        "accuracy on test by class",
        "Slices by length: not measured",
        "Slices by confidence: not measured",
        "Learning curve on the test split",
    ]
