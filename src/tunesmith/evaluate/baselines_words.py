"""Counted words and a linear model: what can be told without any pre-trained model."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy
from tunesmith.evaluate.baselines_ground import Ground, Missing, Outcome, Told

counting: Any = Lazy("sklearn.feature_extraction.text")
linear: Any = Lazy("sklearn.linear_model")

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
USUAL = 1.0
ROUNDS = 2000


def tf_idf(ground: Ground) -> Outcome:
    """Logistic regression (of numbers: ridge regression) on the TF-IDF of words and pairs of words.

    C, the inverse of the penalty (of ridge: the penalty), is chosen on the validation split.
    """
    if why := ground.lacks("answer", "texts", "rows"):
        return Missing("tf_idf", why)
    counter = counting.TfidfVectorizer(ngram_range=(1, 2))
    try:
        train = counter.fit_transform(ground.texts("train"))
    except ValueError:
        return Missing("tf_idf", "the training texts hold no word of two letters or more")
    truths = ground.truths("train")
    if ground.labels and len(np.unique(truths)) < 2:
        return Missing("tf_idf", "the training rows that were drawn are of one class")
    made: dict[float, Any] = {}

    def model(strength: float) -> Any:
        if strength not in made:
            found = linear.LogisticRegression(C=strength, max_iter=ROUNDS) if ground.labels else linear.Ridge(strength)
            made[strength] = found.fit(train, truths)
        return made[strength]

    apart = None if ground.validation is None else counter.transform(ground.texts("validation"))
    best, how = ground.chosen(STRENGTHS, USUAL, lambda strength: model(strength).predict(apart))
    answers = model(best).predict(counter.transform(ground.texts("held out")))
    trained = int(np.size(model(best).coef_) + np.size(model(best).intercept_))
    kind = ("logistic regression", "C") if ground.labels else ("ridge regression", "penalty")
    remark = f"TF-IDF of words and pairs of words, {kind[0]}; {kind[1]} = {best:g}, {how}"
    return Told("tf_idf", ground.every, [answers], trained, len(truths), remark)
