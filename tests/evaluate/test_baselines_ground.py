"""What baselines are measured on: which rows, which tasks, which setting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests import toy
from tests.evaluate import ruled, suites
from tunesmith.core import registry
from tunesmith.core.notes import listening
from tunesmith.evaluate.baselines_ground import Ground

LEARNED = ["classify", "regress", "tag", "choose"]


def of(task: Any, **settings: Any) -> Ground:
    part: Any = registry.build("tasks", {"name": task, **settings})
    if task in LEARNED:
        part.learn(iter(toy.rows_for(part, 12)))
    return Ground(ruled.finished([], part=part, train=lambda: None), "test", 5)


@pytest.mark.parametrize(
    ("task", "settings", "roles", "number", "labels"),
    [
        ("classify", {}, ("text",), False, 3),
        ("classify", {"pair": "pair"}, ("text", "pair"), False, 3),
        ("classify", {"several": True}, ("text",), False, 0),
        ("regress", {}, ("text",), True, 0),
        ("classify_image", {}, (), False, 0),
        ("tag", {}, (), False, 0),
        ("choose", {}, (), False, 0),
        ("generate", {"format": "text"}, ("text",), False, 0),
        ("embed", {}, ("text", "pair"), False, 0),
    ],
)
def test_what_rows_and_answers_are(
    task: str, settings: dict[str, Any], roles: tuple[str, ...], number: bool, labels: int
) -> None:
    ground = of(task, **settings)
    assert (ground.roles, ground.number, len(ground.labels)) == (roles, number, labels)
    assert bool(ground.lacks("class")) == (not labels) and bool(ground.lacks("texts")) == (not roles)
    assert bool(ground.lacks("answer")) == (not labels and not number)
    assert ground.lacks("rows") == "the training rows are not at hand" and ground.lacks() == ""


def test_rows_are_drawn_by_the_seed_and_it_is_said() -> None:
    rows = ruled.rows(30)
    made = ruled.finished(rows, train=lambda: Dataset.from_list(rows))
    with listening() as notes:
        ground = Ground(made, "test", 8)
        learned = ground.rows("train")
    assert len(learned) == 8 and len(set(learned[:]["line"])) == 8
    assert notes == ["Baselines learn from 8 of the 30 training rows, drawn by the run's seed."]
    assert ground.some(10).tolist() == Ground(made, "test", 8).some(10).tolist() != list(range(10))
    assert ground.some(30).tolist() == ground.every.tolist() == list(range(30))
    assert ground.texts("held out")[1] == rows[1]["text"]


def test_the_setting_with_the_best_answers_is_chosen_on_the_validation_split() -> None:
    toyed = toy.prepared({}, count=12)
    ground = Ground(suites.finished(toyed), "test", 100)
    truths = ground.truths("validation")
    answers = {1: (truths + 1) % 3, 2: truths, 3: truths}
    assert ground.chosen([1, 2, 3], 1, lambda one: answers[one]) == (2, "chosen on 12 validation rows from 1, 2, 3")
    alone = Ground(suites.finished(toyed, {"validation": toyed.batches.rows}), "validation", 100)
    assert alone.chosen([1, 2, 3], 1, lambda one: answers[one])[0] == 1


def test_features_are_computed_once() -> None:
    ground = Ground(suites.finished(toy.prepared({}, count=12)), "test", 100)
    first = ground.features("train")
    assert ground.features("train") is first and first.shape[0] == 12
    assert list(ground.spent) == ["loading it", "train"]
    np.testing.assert_array_equal(first, ground.before.features(ground.rows("train")))


def test_what_goes_on_with_a_text() -> None:
    assert not Ground(suites.finished(toy.prepared({})), "test", 9).causal
    ground = Ground(suites.finished(toy.prepared({"model": "builtin:tiny-gpt2"})), "test", 9)
    assert ground.causal and not isinstance(ground.language, str)
