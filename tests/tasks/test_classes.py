"""What tasks with one class a row share: order, weights, metrics, panels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from tunesmith.core.errors import RecipeError
from tunesmith.tasks import classes


def test_classes_are_counted_in_their_natural_order() -> None:
    names, shares = classes.counted([["10"], ["9"], ["9", "b"], []])
    assert names == ["9", "10", "b"] and shares == [0.5, 0.25, 0.25]


def test_weights_by_hand() -> None:
    # Three rows of four have a: 4 / (2 * 3) and 4 / (2 * 1).
    found = classes.weigh("balanced", ["a", "b"], [0.75, 0.25])
    assert found is not None and found.tolist() == pytest.approx([2 / 3, 2.0])
    found = classes.weigh({"b": 3.0}, ["a", "b"], [0.75, 0.25])
    assert found is not None and found.tolist() == [1.0, 3.0]
    assert classes.weigh(None, ["a"], [1.0]) is None
    with pytest.raises(RecipeError, match="the weight of 'a' is -1"):
        classes.weigh({"a": -1.0}, ["a", "b"], [0.75, 0.25])


def test_metrics_are_those_of_sklearn() -> None:
    draws = np.random.default_rng(0)
    for _ in range(20):
        truths, answers = draws.integers(0, 4, 30), draws.integers(0, 4, 30)
        assert classes.metrics(truths, answers, 4) == pytest.approx(
            {
                "accuracy": accuracy_score(truths, answers),
                "macro_f1": f1_score(truths, answers, average="macro", labels=np.unique(truths)),
                "matthews": matthews_corrcoef(truths, answers),
            }
        )


def test_many_classes_are_not_drawn() -> None:
    names = [str(number) for number in range(classes.DRAWN_CLASSES + 1)]
    numbers = np.arange(len(names))
    assert len(classes.panels(numbers, numbers, names)) == 1
    assert len(classes.panels(numbers[:3], numbers[:3], names[:3])) == 2


def test_the_worst_and_the_likeliest() -> None:
    assert classes.worst(np.array([True, False, True]), np.array([0.2, 0.9, 0.8])).tolist() == [2, 0]
    scores = np.array([0.1, 0.05, 0.3, 0.2, 0.15, 0.2])
    assert list(classes.likeliest(scores, "abcdef")) == ["c", "d", "f", "e", "a"]
