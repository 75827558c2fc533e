"""The nearest class and the nearest rows, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid

from tests import toy
from tests.evaluate import suites
from tunesmith.evaluate import baselines_features as told
from tunesmith.evaluate.baselines_ground import Ground, Missing, Told

DRAW = np.random.default_rng(0)
CLASSES = DRAW.integers(0, 4, 90)
KNOWN = DRAW.normal(size=(90, 6)) + CLASSES[:, None] * 0.4 + 3
OTHERS = DRAW.normal(size=(40, 6)) + 3.6
MEAN = KNOWN.mean(axis=0)


def test_the_nearest_mean_is_that_of_scikit_learn_by_euclid() -> None:
    known, others = told.units(KNOWN, MEAN), told.units(OTHERS, MEAN)
    np.testing.assert_allclose(np.linalg.norm(known, axis=1), 1)
    expected = NearestCentroid(metric="euclidean").fit(known, CLASSES).predict(others)
    np.testing.assert_array_equal(told.nearest_class(others, known, CLASSES), expected)
    assert len(set(expected.tolist())) == 4


@pytest.mark.parametrize("k", [1, 3, 8])
def test_neighbours_are_those_of_scikit_learn_by_cosine(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "CHUNK", 7)
    near = told.nearest(told.units(OTHERS, MEAN), told.units(KNOWN, MEAN), k)
    moved = KNOWN - MEAN, OTHERS - MEAN
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(moved[0], CLASSES)
    np.testing.assert_array_equal(near, theirs.kneighbors(moved[1], return_distance=False))
    np.testing.assert_array_equal(told.agreed(CLASSES[near], 4), theirs.predict(moved[1]))
    numbers = DRAW.normal(size=90)
    means = KNeighborsRegressor(k, metric="cosine", algorithm="brute").fit(moved[0], numbers).predict(moved[1])
    np.testing.assert_allclose(told.agreed(numbers[near], 0), means)


def test_of_classes_with_as_many_votes_the_first_is_taken() -> None:
    np.testing.assert_array_equal(told.agreed(np.array([[2, 1, 1, 2], [0, 2, 2, 1]]), 3), [1, 2])


def test_rows_that_are_learned_from_are_their_own_neighbours() -> None:
    ground = Ground(suites.finished(toy.prepared({}, count=12)), "test", 100)
    found = told.neighbours(ground)
    assert isinstance(found, Told) and "k = 1, chosen on 12 validation rows from 1, 3, 5" in found.remark
    np.testing.assert_array_equal(found.answers[0], ground.truths("held out"))
    assert found.used == 12 and set(found.uses) == {"train", "held out", "validation"} == set(ground.spent) - {
        "loading it"
    }


def test_without_rows_to_choose_on_k_is_the_usual_one() -> None:
    toyed = toy.prepared({"task": "regress"}, count=12)
    ground = Ground(suites.finished(toyed, {"validation": toyed.batches.rows}), "validation", 100)
    found = told.neighbours(ground)
    assert isinstance(found, Told) and "k = 5, not chosen, as there is no validation split" in found.remark
    assert found.answers[0].dtype == np.float64
    lacking = told.nearest_mean(ground)
    assert (
        isinstance(lacking, Missing)
        and lacking.why == "an answer of the task 'regress', as it is set, is no single class"
    )
