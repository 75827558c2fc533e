"""Regression: the scale is learned and undone, metrics are those of scipy and sklearn, the baseline is the mean."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_squared_error, r2_score
from transformers import pipeline

from tests import toy
from tests.tasks.test_classify import logits_in_both_orders, pairs_in_both_orders
from tests.toy import outputs_of
from tunesmith.core.column import Row
from tunesmith.core.panel import Points
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks.regress import Regress, squared_error


def taught(scores: list[float], **settings: Any) -> Regress:
    task = Regress(**settings)
    task.learn({"text": "a", "score": score} for score in scores)
    return task


def test_squared_error_by_hand() -> None:
    found = squared_error(torch.tensor([1.0, 2.0]).bfloat16(), torch.tensor([0.5, 4.0]))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(0.25 + 4.0)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 6.0], [-3.0], [4.0, 4.0], [1e9 + 1, 1e9 + 2, 1e9 + 3]])
def test_mean_and_deviation_are_those_of_numpy(scores: list[float]) -> None:
    state = taught(scores).state()
    assert state["mean"] == pytest.approx(np.mean(scores), rel=1e-12)
    # Equal scores have no deviation: they keep their unit.
    assert state["scale"] == pytest.approx(float(np.std(scores)) or 1.0, rel=1e-6)


def test_the_scale_is_undone() -> None:
    scores = [10.0, 20.0, 60.0]
    task = taught(scores)
    rows: list[Row] = [{"text": "x", "score": score} for score in scores]
    batch = task.collate(task.encode(rows, tiny_tokenizer(), 128), tiny_tokenizer())
    targets = batch.fields["targets"]
    assert targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert targets.std(correction=0).item() == pytest.approx(1)
    answers, lines = task.decode(outputs_of(targets[:, None], batch), None)
    assert answers == pytest.approx(np.array(scores), rel=1e-6)
    assert [line["prediction"] for line in lines] == pytest.approx(scores, rel=1e-6)
    assert task.truths(rows).tolist() == scores
    step: Any = SimpleNamespace(outputs=SimpleNamespace(logits=targets[:, None] + 2), batch=batch)
    assert (task.loss(step) / task.targets(batch)).item() == pytest.approx(4.0)


def test_metrics_are_those_of_scipy_and_sklearn() -> None:
    draw = np.random.default_rng(0)
    truths = draw.normal(size=50)
    answers = truths + draw.normal(size=50)
    assert taught([0.0]).metrics(truths, answers) == pytest.approx(
        {
            "pearson": pearsonr(truths, answers).statistic,
            "spearman": spearmanr(truths, answers).statistic,
            "rmse": math.sqrt(mean_squared_error(truths, answers)),
            "r2": r2_score(truths, answers),
        }
    )


def test_metrics_that_are_not_defined_are_not_numbers() -> None:
    varied, flat = np.array([1.0, 2.0, 4.0]), np.array([3.0, 3.0, 3.0])
    task = taught([0.0])
    constant = task.metrics(varied, flat)
    assert math.isnan(constant["pearson"]) and math.isnan(constant["spearman"])
    assert constant["rmse"] == pytest.approx(math.sqrt((4 + 1 + 1) / 3)) and constant["r2"] < 0
    assert math.isnan(task.metrics(flat, varied)["r2"])
    assert math.isnan(task.metrics(varied[:1], varied[1:2])["pearson"])


def test_the_constant_answer_is_the_mean() -> None:
    name, answer = taught([1.0, 2.0, 6.0]).constant()
    assert (name, answer) == ("mean score", pytest.approx(3.0))
    truths = np.array([1.0, 2.0, 6.0])
    assert taught([0.0]).metrics(truths, np.full(3, answer))["r2"] == pytest.approx(0)


def test_one_output() -> None:
    assert Regress().head() == {"num_labels": 1, "problem_type": "regression"}


def test_mistakes_stand_by_the_size_of_their_error() -> None:
    assert Regress().mistakes(np.array([1.0, 2.0, 3.0]), np.array([1.5, -2.0, 4.0]), np.empty(0)).tolist() == [1, 2, 0]


def test_thousands_of_points_are_thinned() -> None:
    truths = np.arange(9000, dtype=float)
    (panel,) = Regress().panels(truths, truths + 1)
    assert isinstance(panel, Points)
    assert 2000 <= len(panel.xs) <= 4000 and panel.diagonal
    assert all(y == x + 1 for x, y in zip(panel.xs, panel.ys, strict=True))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "x", "Score": "1.5"}, {"text": "text", "score": "Score"}),
        ({"sentence1": "x", "sentence2": "y", "score": 3},
         {"text": "sentence1", "pair": "sentence2", "score": "score"}),
        ({"text": "x", "score": "high"}, None),
        ({"text": "x", "label": "1"}, None),
        ({"body": "x"}, None),
    ],
)  # fmt: skip
def test_columns_that_suit(row: Row, expected: dict[str, Any] | None) -> None:
    assert Regress.suits(list(row), [row]) == expected


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_swapped_texts_have_the_same_number_bit_for_bit(backbone: str) -> None:
    toyed, rows = pairs_in_both_orders("regress", "score", backbone)
    swapped = [{**row, "text": row["pair"], "pair": row["text"]} for row in rows]
    assert np.array_equal(logits_in_both_orders(toyed, rows), logits_in_both_orders(toyed, swapped))


def test_both_numbers_are_added_by_hand() -> None:
    # Outputs 0.5 and 1.0 of the first pair, -1.0 and 0.5 of the second; mean 20 and deviation 10 are undone.
    task = Regress(pair="pair", both_orders=True)
    task.restore({"mean": 20.0, "scale": 10.0})
    rows = [{"text": "a", "pair": "b", "score": 30.0}, {"text": "c", "pair": "d", "score": 20.0}]
    batch = task.collate(task.encode(rows, tiny_tokenizer(), 128), tiny_tokenizer())
    assert batch.inputs["input_ids"].shape[0] == 4
    step = outputs_of(torch.tensor([[0.5], [1.0], [-1.0], [0.5]]), batch)
    answers, _ = task.decode(step, None)
    assert answers.tolist() == [35.0, 15.0]
    assert task.loss(step).item() == pytest.approx((1.5 - 1.0) ** 2 + (-0.5 - 0.0) ** 2)
    assert task.targets(batch) == 2


def test_both_orders_need_a_pair() -> None:
    with pytest.raises(ValueError, match="'both_orders' needs a second text"):
        Regress(both_orders=True)


def test_a_saved_model_gives_its_numbers_in_a_plain_pipeline(tmp_path: Path) -> None:
    toyed = toy.prepared({"task": "regress"})
    lines: list[dict[str, Any]] = []
    rows = Dataset.from_list([{"text": "amber basil"}, {"text": "cedar"}])
    Predictor(toyed.backbone.model, toyed.backbone.tokenizer, toyed.recipe.task, 128).predict(rows, each=lines.append)
    folder = str(toy.save(toyed, tmp_path / "model"))
    plain = pipeline("text-classification", folder, device="cpu", function_to_apply="none")
    # The pipeline knows nothing of the scale of the scores, which the task's state holds.
    state = toyed.recipe.task.state()
    given = [state["mean"] + state["scale"] * one["score"] for one in plain(rows["text"][:])]
    assert given == pytest.approx([line["prediction"] for line in lines], abs=1e-5)
