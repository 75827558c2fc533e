"""The suite of every run: the model beside its baselines, with intervals, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests.evaluate import suites
from tunesmith.core.finished import Finished, Predictions
from tunesmith.core.panel import Result, Table
from tunesmith.core.rows import each
from tunesmith.evaluate.task import SHOWN_MISTAKES, Task
from tunesmith.tasks.classify import Classify
from tunesmith.tasks.regress import Regress

LABELS = ["a"] * 50 + ["b"] * 30


class Bare(Classify):
    """Classification that knows of no best constant answer."""

    def constant(self) -> None:  # type: ignore[override]
        """None."""


def measured(
    answers: np.ndarray,
    untrained: np.ndarray,
    splits: tuple[str, ...] = ("test",),
    labels: Any = None,
    kind: type[Classify] = Classify,
    shown: Callable[[int], dict[str, Any]] = lambda place: {"prediction": "x"},
) -> Result:
    labels = labels or LABELS
    if isinstance(labels[0], str):
        task: Any = kind()
        task.learn({"label": label} for label in labels)
        rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]
    else:
        task = Regress()
        task.learn({"score": score} for score in labels)
        rows = [{"text": f"text {n}", "score": score} for n, score in enumerate(labels)]
    confidences = np.linspace(0.5, 1, len(rows))

    def of(answers: np.ndarray) -> Callable[[str], Predictions]:
        return lambda split: Predictions(answers, confidences, 0.5)

    return Task().measure(
        Finished(
            task=task,
            splits={name: Dataset.from_list(rows) for name in splits},
            predict=of(answers),
            untrained=of(untrained),
            lines=lambda split, places: [{**rows[n], **shown(n)} for n in places],
            seed=0,
            **{**suites.UNASKED, "train": lambda: None},
        )
    )


def values(result: Result, metric: str, split: str = "test") -> dict[str, float]:
    return {one.subject: one.value for one in result.figures if (one.name, one.split) == (metric, split)}


def test_the_model_stands_beside_the_constant_and_the_untrained_one() -> None:
    truths = np.array([0] * 50 + [1] * 30)
    answers = truths.copy()
    answers[:8] = 1
    result = measured(answers, 1 - truths)
    assert values(result, "accuracy") == {"model": 72 / 80, "most frequent class": 50 / 80, "untrained head": 0.0}
    assert values(result, "matthews")["most frequent class"] == 0.0
    model = next(one for one in result.figures if one.name == "accuracy" and one.subject == "model")
    assert model.low is not None and model.high is not None
    # The binomial interval: 0.9 ± 1.96 sqrt(0.9 * 0.1 / 80).
    assert (model.low, model.high) == pytest.approx((0.834, 0.966), abs=0.02)


def test_every_split_has_figures_and_the_test_split_panels() -> None:
    truths = np.array([0] * 50 + [1] * 30)
    both = measured(1 - truths, truths, splits=("validation", "test"))
    assert {one.split for one in both.figures} == {"validation", "test"}
    assert both.panels[-1].title == "Worst mistakes on the test split"
    assert measured(1 - truths, truths, splits=("validation",)).panels[-1].title.endswith("validation split")
    assert measured(truths, truths, splits=()).as_json() == {"figures": [], "panels": []}


def test_the_worst_mistakes_come_first() -> None:
    truths = np.array([0] * 50 + [1] * 30)
    table = measured(1 - truths, truths).panels[-1]
    assert isinstance(table, Table)
    assert table.columns == ["text", "label", "prediction"] and len(table.rows) == SHOWN_MISTAKES
    assert [row[0] for row in table.rows[:2]] == ["text 79", "text 78"]
    assert not any("mistakes" in panel.title for panel in measured(truths, truths).panels)


def test_a_task_without_a_best_constant_has_one_baseline() -> None:
    truths = np.array([0] * 50 + [1] * 30)
    result = measured(truths, 1 - truths, kind=Bare)
    assert values(result, "accuracy") == {"model": 1.0, "untrained head": 0.0}


def test_lists_and_mappings_are_shown_by_their_values() -> None:
    def shown(place: int) -> dict[str, Any]:
        spans = [{"type": "wood", "text": "oak", "confidence": 0.5}, {"type": "place", "text": "York", "at": [3, 4]}]
        alone = {} if place else {"answers": ("a", 7)}
        return {"entities": spans, "said": {"role": "user", "content": "hello"}, "empty": [], **alone}

    truths = np.array([0] * 50 + [1] * 30)
    answers = truths.copy()
    answers[[0, 60]] = 1 - answers[[0, 60]]
    table = measured(answers, truths, shown=shown).panels[-1]
    assert isinstance(table, Table)
    assert table.columns == ["text", "label", "entities", "said", "empty", "answers"]
    # The second row's line has no answers.
    told = ["wood oak 0.5, place York 3, 4", "user hello", ""]
    assert table.rows == [["text 60", "b", *told, None], ["text 0", "a", *told, "a, 7"]]


def test_long_lists_of_what_might_have_been_are_left_out() -> None:
    truths = np.array([0] * 50 + [1] * 30)
    line = {"prediction": "b", "scores": {"a": 0.1, "b": 0.9}, "candidates": [{"text": "a"}], "confidence": 0.9}
    table = measured(1 - truths, truths, shown=lambda place: line).panels[-1]
    assert isinstance(table, Table)
    assert table.columns == ["text", "label", "prediction", "confidence"]
    assert table.rows[0] == ["text 79", "b", "b", 0.9]


def test_figures_that_are_not_defined_are_left_out() -> None:
    scores = [float(n) for n in range(40)]
    result = measured(np.array(scores) + 1, np.zeros(40), labels=scores)
    assert set(values(result, "pearson")) == {"model"}
    assert values(result, "rmse")["model"] == pytest.approx(1.0)
    assert values(result, "r2")["mean score"] == pytest.approx(0.0)
    assert all(one.low is None or one.low <= one.value + 1e-9 for one in result.figures)


def trained(labels: list[str], seen: float, unseen: float) -> Result:
    """A model that is right on these shares of the rows that it was trained on, and of others."""
    task: Any = Classify()
    task.learn({"label": label} for label in labels)
    rows = Dataset.from_list([{"text": f"text {n}", "label": label} for n, label in enumerate(labels)])

    def answers(share: float, asked: Any = rows) -> Predictions:
        truths = task.truths(each(asked))
        wrong = np.arange(len(truths)) >= share * len(truths)
        return Predictions(np.where(wrong, 1 - truths, truths), np.ones(len(truths)), 0.5)

    return Task().measure(
        Finished(
            task=task,
            splits={"test": rows},
            predict=lambda split: answers(unseen),
            untrained=lambda split: answers(0.4),
            lines=lambda split, places: [rows[n] for n in places],
            seed=0,
            **{
                **suites.UNASKED,
                "train": lambda: rows,
                "now": SimpleNamespace(predict=lambda asked: answers(seen, asked)),
            },
        )
    )


@pytest.mark.parametrize(
    ("seen", "unseen", "words"),
    [
        (0.92, 0.9, ["Learned", "Generalises"]),
        (1.0, 0.72, ["Learned", "Overfitted"]),
        # Labels that tell nothing: learned by heart, and worth nothing elsewhere.
        (1.0, 0.5, ["Did not learn", "Overfitted"]),
        (0.51, 0.5, ["Did not learn", "Generalises?"]),
    ],
)
def test_what_a_model_comes_to(seen: float, unseen: float, words: list[str]) -> None:
    result = trained(["a", "b"] * 300, seen, unseen)
    assert [one.word for one in result.verdicts] == words
    learned = result.verdicts[0]
    assert learned.value == pytest.approx(unseen - 0.5) and learned.low is not None and learned.high is not None
    # The interval of a difference on the same rows: the standard error of answers that differ on half of them.
    assert learned.high - learned.low < 2 * 1.96 * 1 / 600**0.5 * 1.1
    assert values(result, "accuracy", "train") == {"model": pytest.approx(seen, abs=0.002)}
    assert next(one.split for one in result.figures if one.name == "accuracy") == "train"


def test_few_rows_give_no_verdict() -> None:
    result = trained(["a", "b"] * 4, 1.0, 1.0)
    assert [one.word for one in result.verdicts] == ["Learned?"]


def test_training_rows_are_left_out_on_demand() -> None:
    result = Task(train_rows=0)
    assert result._seen(None, 10) == {}  # type: ignore[arg-type]
