"""Scores that tell own rows from others, against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp, softmax
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score, roc_curve

from tunesmith.evaluate import detection


@pytest.mark.parametrize("decimals", [6, 1, 0])  # the fewer, the more are equal
def test_separation_is_that_of_scikit_learn(decimals: int) -> None:
    draw = np.random.default_rng(decimals)
    inside, outside = draw.normal(1, 1, 150).round(decimals), draw.normal(0, 1, 90).round(decimals)
    found = detection.separation(detection.ranked(inside, outside))
    own = np.repeat([1, 0], [150, 90])
    assert found["auroc"] == pytest.approx(roc_auc_score(own, np.concatenate([inside, outside])))
    wrongly, rightly, _ = roc_curve(own, np.concatenate([inside, outside]), drop_intermediate=False)
    assert found["fpr_at_95"] == pytest.approx(wrongly[rightly >= 0.95][0])


def test_the_ends() -> None:
    apart = detection.separation(detection.ranked(np.array([2.0, 3.0]), np.array([0.0, 1.0])))
    assert apart == {"auroc": 1.0, "fpr_at_95": 0.0}
    assert detection.separation(detection.ranked(np.zeros(3), np.zeros(5))) == {"auroc": 0.5, "fpr_at_95": 1.0}


def test_scores_of_classes() -> None:
    scores = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32) * 3
    exact = scores.astype(float)
    assert np.allclose(detection.energies(scores), logsumexp(exact, axis=1))
    assert np.allclose(np.exp(detection.probabilities(scores)), softmax(exact, axis=1).max(axis=1))
    # Rounded to 1, probabilities could not tell these apart.
    certain = detection.probabilities(np.array([[90.0, 0.0], [60.0, 0.0], [0.0, 0.0]], dtype=np.float32))
    assert certain[0] >= certain[1] > certain[2] == pytest.approx(np.log(0.5))


def test_distances_are_those_of_scipy() -> None:
    draw = np.random.default_rng(0)
    truths = draw.choice([0, 2, 5], 60)  # not every class need be there
    features = (draw.normal(size=(60, 4)) @ draw.normal(size=(4, 4)) + truths[:, None]).astype(np.float32)
    means = {label: features[truths == label].mean(axis=0, dtype=float) for label in (0, 2, 5)}
    centred = features - np.stack([means[label] for label in truths])
    inverse = np.linalg.inv(ledoit_wolf(centred, assume_centered=True)[0])
    others = draw.normal(size=(7, 4)).astype(np.float32)
    expected = [-min(mahalanobis(one, mean, inverse) ** 2 for mean in means.values()) for one in others]
    assert np.allclose(detection.clouds(features, truths).nearness(others), expected, rtol=1e-5)


def test_fewer_rows_than_numbers_are_enough() -> None:
    draw = np.random.default_rng(0)
    features = np.concatenate([draw.normal(5, 1, (6, 20)), draw.normal(-5, 1, (6, 20))])
    found = detection.clouds(features, np.repeat([0, 1], 6))
    near, far = found.nearness(np.full((1, 20), 5.0)), found.nearness(np.zeros((1, 20)))
    assert np.isfinite(near).all() and near > far
