"""Who answers: the model, the constant, the untrained model."""

import numpy as np

from tunesmith.evaluate.subjects import answers_of
from tunesmith.tasks.classify import Classify


def test_the_constant_stands_where_there_is_one() -> None:
    task = Classify()
    task.learn({"label": label} for label in "abb")
    truths = np.array([0, 1, 1])
    found = answers_of(task, truths, truths, 1 - truths)
    assert {name: answers.tolist() for name, answers in found.items()} == {
        "model": [0, 1, 1],
        "most frequent class": [1, 1, 1],
        "untrained head": [1, 0, 0],
    }
