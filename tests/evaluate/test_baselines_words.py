"""TF-IDF under a linear model."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from tests.evaluate import ruled
from tunesmith.evaluate.baselines_ground import Ground, Missing, Told
from tunesmith.evaluate.baselines_words import tf_idf

TRAIN = [
    {"text": f"{text} {n}", "label": label, "score": float(n)}
    for n, (text, label) in enumerate(
        [("please cancel it", "cancel"), ("lovely lamp", "praise"), ("how much", "price")] * 4
    )
]
HELD = [
    {"text": "cancel lamp please", "label": "cancel", "score": 1.0},
    {"text": "how lovely lovely", "label": "praise", "score": 4.0},
    {"text": "lamp 9", "label": "price", "score": 9.0},
]


def ground(task: str = "classify", train: list[dict[str, Any]] = TRAIN) -> Ground:
    splits = {"test": Dataset.from_list(HELD)}
    part = ruled.task(task)
    return Ground(ruled.finished(HELD, part=part, splits=splits, train=lambda: Dataset.from_list(train)), "test", 100)


def test_it_is_logistic_regression_on_words_and_pairs_of_words() -> None:
    found = tf_idf(ground())
    counter = TfidfVectorizer(ngram_range=(1, 2))
    numbers = [["cancel", "praise", "price"].index(row["label"]) for row in TRAIN]
    model = LogisticRegression(C=1.0, max_iter=2000).fit(counter.fit_transform(row["text"] for row in TRAIN), numbers)
    assert isinstance(found, Told) and "C = 1, not chosen" in found.remark
    np.testing.assert_array_equal(found.answers[0], model.predict(counter.transform(row["text"] for row in HELD)))
    assert found.trained == model.coef_.size + 3 and found.used == 12


def test_numbers_have_ridge_regression() -> None:
    found = tf_idf(ground("regress"))
    counter = TfidfVectorizer(ngram_range=(1, 2))
    model = Ridge(1.0).fit(counter.fit_transform(row["text"] for row in TRAIN), [row["score"] for row in TRAIN])
    assert isinstance(found, Told)
    np.testing.assert_allclose(found.answers[0], model.predict(counter.transform(row["text"] for row in HELD)))


def test_what_can_not_be_counted_is_told() -> None:
    empty = tf_idf(ground(train=[{"text": "!", "label": "price"}] * 4))
    assert isinstance(empty, Missing) and "no word" in empty.why
    alone = tf_idf(ground(train=[{"text": "how much", "label": "price"}] * 4))
    assert isinstance(alone, Missing) and "one class" in alone.why
