"""Classification: losses by hand, classes in their order, metrics, answers, the constant baseline."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.utils.class_weight import compute_class_weight
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import pipeline

from tests import toy
from tests.toy import outputs_of
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, RecipeError
from tunesmith.core.panel import Bars, Heatmap, Table
from tunesmith.core.step import Batch
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks.classes import cross_entropy
from tunesmith.tasks.classify import Classify, binary_cross_entropy


def taught(labels: list[Any], **settings: Any) -> Classify:
    """A task that has learned from rows with these labels."""
    task = Classify(**settings)
    task.learn({"text": "a", "label": label} for label in labels)
    return task


def decoded(task: Classify, logits: list[list[float]]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    return task.decode(outputs_of(torch.tensor(logits)), None)


def test_cross_entropy_by_hand() -> None:
    # Probabilities 1/4, 1/4, 1/2 for the first example, 1/3 each for the second.
    logits = torch.tensor([[0.0, 0.0, math.log(2)], [1.0, 1.0, 1.0]])
    weights = [0.5, 1.0, 3.0]
    first = 0.8 * 3.0 * math.log(2) + 0.2 / 3 * (0.5 * math.log(4) + math.log(4) + 3.0 * math.log(2))
    second = 0.8 * 0.5 * math.log(3) + 0.2 / 3 * (0.5 + 1.0 + 3.0) * math.log(3)
    found = cross_entropy(logits, torch.tensor([2, 0]), torch.tensor(weights), 0.2)
    assert found.item() == pytest.approx(first + second, rel=1e-6)
    bare = cross_entropy(logits, torch.tensor([2, 0]), None, 0.0)
    assert bare.item() == pytest.approx(math.log(2) + math.log(3), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 4.0]])
def test_the_mean_is_that_of_torch(weights: list[float] | None, smoothing: float) -> None:
    # The reference: torch.nn.CrossEntropyLoss, whose weighted mean divides by the weights of the targets.
    settings = None if weights is None else dict(zip("abc", weights, strict=True))
    task = taught(list("abc"), class_weights=settings, label_smoothing=smoothing)
    logits, targets = torch.randn(9, 3), torch.tensor([0, 1, 2, 2, 1, 0, 2, 2, 2])
    batch = Batch({}, {"targets": targets})
    step: Any = SimpleNamespace(outputs=SimpleNamespace(logits=logits), batch=batch)
    weight = None if weights is None else torch.tensor(weights)
    expected = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)(logits, targets)
    assert (task.loss(step) / task.targets(batch)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_binary_cross_entropy_by_hand() -> None:
    # sigmoid(log 3) = 3/4. Smoothing 0.2 makes the targets 0.9 and 0.1; the weight of the second class is 2.
    logits, targets = torch.tensor([[math.log(3), math.log(3)]]), torch.tensor([[True, False]])
    first = -(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4))
    second = -2 * (0.1 * math.log(3 / 4) + 0.9 * math.log(1 / 4))
    found = binary_cross_entropy(logits, targets, torch.tensor([1.0, 2.0]), 0.2)
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_several_classes_have_the_mean_of_torch() -> None:
    # The reference: torch.nn.BCEWithLogitsLoss, the loss of transformers' multi_label_classification.
    logits, targets = torch.randn(7, 4), torch.rand(7, 4) > 0.5
    expected = nn.BCEWithLogitsLoss()(logits, targets.float())
    assert (binary_cross_entropy(logits, targets, None, 0.0) / 7).item() == pytest.approx(expected.item(), rel=1e-6)


def test_losses_of_low_precision_logits_are_computed_in_float32() -> None:
    logits = torch.randn(4, 3).bfloat16()
    assert cross_entropy(logits, torch.tensor([0, 1, 2, 0]), None, 0.0).dtype == torch.float32
    assert binary_cross_entropy(logits, torch.ones(4, 3), None, 0.0).dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [
        (["10", "9", "2"], ["2", "9", "10"]),
        (["1.5", "-2", "0"], ["-2", "0", "1.5"]),
        (["beta", "3", "alpha"], ["3", "alpha", "beta"]),
        (["nan", "b", "1", "inf", "a"], ["1", "a", "b", "inf", "nan"]),
        (["b", "1", "nan", "a", "inf"], ["1", "a", "b", "inf", "nan"]),
    ],
)
def test_classes_stand_in_natural_order(labels: list[str], ordered: list[str]) -> None:
    head = taught(labels).head()
    assert head["num_labels"] == len(labels)
    assert head["id2label"] == dict(enumerate(ordered))
    assert head["label2id"] == {name: number for number, name in enumerate(ordered)}
    assert head["problem_type"] == "single_label_classification"
    assert taught([[name] for name in labels], several=True).head()["problem_type"] == "multi_label_classification"


def test_balanced_weights_are_those_of_sklearn() -> None:
    labels = ["a"] * 5 + ["b"] * 2 + ["c"]
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=np.array(labels))
    task = taught(labels, class_weights="balanced")
    weights = [task.targets(Batch({}, {"targets": torch.tensor([number])})) for number in range(3)]
    assert weights == pytest.approx(expected.tolist())
    assert task.targets(Batch({}, {"targets": torch.tensor([0] * 5 + [1] * 2 + [2])})) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("weights", "told"), [({"aa": 2.0}, "no class is called 'aa'. Did you mean 'a'"), ({"a": -1.0}, "at least 0")]
)
def test_wrong_weights_are_refused(weights: dict[str, float], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        taught(["a", "b"], class_weights=weights)


def test_metrics_by_hand() -> None:
    # Confusion: a a->a, a->b, b->b, b b->a. Class c is in no truth and stays out of the mean.
    truths, answers = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 0, 0])
    found = taught(list("abc")).metrics(truths, answers)
    # F1 of a: 2*2 / (2*2 + 2 + 1) = 4/7; of b: 2*1 / (2*1 + 1 + 2) = 2/5.
    # Matthews: (2*1 - 1*2) / ... = 0.
    assert found == pytest.approx({"accuracy": 0.5, "macro_f1": (4 / 7 + 2 / 5) / 2, "matthews": 0.0})
    assert taught(list("abc")).metrics(truths, truths) == {"accuracy": 1.0, "macro_f1": 1.0, "matthews": 1.0}


def test_metrics_of_several_by_hand() -> None:
    truths = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)
    answers = np.array([[1, 0], [1, 0], [0, 0], [1, 1]], dtype=bool)
    found = taught([["a"], ["b"]], several=True).metrics(truths, answers)
    # Whole sets right: rows 0 and 2. Class a: 2 hits, 1 false, F1 4/5; b: 1 hit, 1 missed, F1 2/3; all: 6/8.
    assert found == pytest.approx({"accuracy": 0.5, "micro_f1": 6 / 8, "macro_f1": (4 / 5 + 2 / 3) / 2})


def test_the_constant_answer() -> None:
    assert taught(["b", "a", "b", "c"]).constant() == ("most frequent class", 1)
    name, answer = taught([["a"], ["a", "b"], ["a", "b"], []], several=True).constant()
    assert name == "most frequent classes"
    assert answer.tolist() == [True, False]  # b stands in exactly half of the rows


def test_answers_and_what_is_shown() -> None:
    answers, lines = decoded(taught(list("abc")), [[0.0, math.log(2), 0.0], [math.log(6), 0.0, 0.0]])
    assert answers.tolist() == [1, 0]
    assert [line["prediction"] for line in lines] == ["b", "a"]
    assert lines[0]["scores"] == {"b": 0.5, "a": 0.25, "c": 0.25}
    assert lines[1]["confidence"] == 0.75


def test_answers_of_several_follow_the_threshold() -> None:
    logits = [[math.log(3), -math.log(3)], [-5.0, -5.0]]  # probabilities 3/4 and 1/4; nearly none
    for threshold, expected in ((0.5, [["a"], []]), (0.2, [["a", "b"], []]), (0.8, [[], []])):
        task = taught([["a"], ["b"]], several=True, threshold=threshold)
        answers, lines = decoded(task, logits)
        assert [line["prediction"] for line in lines] == expected
        assert answers.shape == (2, 2)


def test_five_likeliest_classes_are_shown() -> None:
    _, lines = decoded(taught(list("abcdefg")), [[1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0]])
    assert list(lines[0]["scores"]) == ["b", "d", "f", "g", "e"]


def test_mistakes_stand_by_confidence() -> None:
    task = taught(list("ab"))
    truths, answers = np.array([0, 1, 0, 1]), np.array([1, 1, 1, 0])
    assert task.mistakes(truths, answers, np.array([0.6, 0.99, 0.9, 0.7])).tolist() == [2, 3, 0]
    several = taught([["a"], ["b"]], several=True)
    sets = np.array([[1, 0], [0, 1]], dtype=bool)
    assert several.mistakes(sets, np.array([[1, 0], [1, 1]], dtype=bool), np.array([0.5, 0.5])).tolist() == [1]


def test_an_unknown_class_is_told_with_the_nearest() -> None:
    for task, label in ((taught(["cancel", "order"]), "cancle"), (taught([["cancel"]], several=True), ["cancle"])):
        with pytest.raises(DataError, match=r"'cancle'\. Did you mean 'cancel'"):
            task.truths([{"text": "a", "label": label}])


def test_truths_of_several_with_none() -> None:
    task = taught([["b"], ["a", "b"]], several=True)
    assert task.truths([{"label": ["b"]}, {"label": []}]).tolist() == [[False, True], [False, False]]


def test_examples_are_cut_at_the_shortest_limit() -> None:
    row: Row = {"text": "x" * 40, "label": "a"}
    for most, limit, expected in ((10, 128, 10), (None, 12, 12), (64, 12, 12), (None, 128, 42)):
        (example,) = taught(["a", "b"], max_length=most).encode([row], tiny_tokenizer(), limit)
        assert len(example["input_ids"]) == expected  # the text's letters and two special tokens
        assert example["cut"] is (expected < 42)


def test_a_pair_is_read_with_the_text() -> None:
    task = taught(["a"], pair="second")
    (example,) = task.encode([{"text": "x", "pair": "y", "label": "a"}], tiny_tokenizer(), 128)
    assert tiny_tokenizer().decode(example["input_ids"]) == "<s>x</s>y</s>"
    assert [column.role for column in task.columns()] == ["text", "pair", "label"]


def test_rows_without_a_class_have_no_targets() -> None:
    task = taught(["a"])
    examples = task.encode([{"text": "x"}], tiny_tokenizer(), 128)
    assert "targets" not in task.collate(examples, tiny_tokenizer()).fields


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"Text": "x", "Label": "a"}, {"text": "Text", "label": "Label"}),
        ({"text": "x", "intent": "a", "note": ""}, {"text": "text", "label": "intent"}),
        ({"premise": "x", "hypothesis": "y", "label": "a"},
         {"text": "premise", "pair": "hypothesis", "label": "label"}),
        ({"text": "x", "tags": ["a"]}, {"text": "text", "label": "tags", "several": True}),
        ({"text": "x", "price": 3}, None),
        ({"label": "a", "price": 3}, None),
    ],
)  # fmt: skip
def test_columns_that_suit(row: Row, expected: dict[str, Any] | None) -> None:
    assert Classify.suits(list(row), [row]) == expected


def test_panels_count_by_class() -> None:
    truths, answers = np.array([0, 0, 1]), np.array([0, 1, 1])
    table, heatmap = taught(list("abc")).panels(truths, answers)
    assert isinstance(table, Table) and isinstance(heatmap, Heatmap)
    assert table.rows == [
        ["a", 2, 1.0, 0.5, pytest.approx(2 / 3)],
        ["b", 1, 0.5, 1.0, pytest.approx(2 / 3)],
        ["c", 0, 0.0, 0.0, 0.0],
    ]
    assert heatmap.values == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    several = taught([["a"], ["b"]], several=True)
    sets = np.array([[True, False], [True, True]])
    found = several.panels(sets, sets)
    assert isinstance(found[1], Bars) and found[1].series == {"F1": [1.0, 1.0]}


def test_the_loss_at_the_start_is_that_of_guessing() -> None:
    # A fresh head gives nearly equal probabilities: -log(1 / 3).
    toyed = toy.prepared({"task": "classify"}, count=32)
    batch = toyed.recipe.task.collate(
        toyed.recipe.task.encode(list(toyed.batches.rows), toyed.backbone.tokenizer, 128), toyed.backbone.tokenizer
    )
    step: Any = SimpleNamespace(outputs=toyed.training.model.eval()(**batch.inputs), batch=batch)
    assert toyed.recipe.task.loss(step).item() / 32 == pytest.approx(math.log(3), abs=0.05)


def pairs_in_both_orders(task: str, label: str, backbone: str) -> tuple[Any, list[Row]]:
    """A toy on pairs that are read in both orders, and its rows."""
    words = toy.WORDS
    rows: list[Row] = [
        {"text": words[n], "pair": " ".join(words[n + 2 : n + 5 + n % 3]), label: [1.0, 2.0][n % 2], "line": n + 2}
        for n in range(8)
    ]
    if label == "label":
        rows = [{**row, "label": str(row["label"])} for row in rows]
    settings = {"name": task, "pair": "pair", "both_orders": True}
    values = {"task": settings, "model": backbone, "train": {"steps": 60, "batch_size": 8, "learning_rate": 3e-3}}
    toyed = toy.prepared(values, rows=Dataset.from_list(rows))
    toy.quiet(toyed.training.model)
    return toyed, rows


def logits_in_both_orders(toyed: Any, rows: list[Row]) -> np.ndarray:
    """What the task makes of rows, before it answers."""
    task, backbone = toyed.recipe.task, toyed.backbone
    batch = task.collate(task.encode(rows, backbone.tokenizer, 128), backbone.tokenizer)
    with torch.inference_mode():
        outputs = backbone.model.eval()(**batch.inputs).logits
        step: Any = SimpleNamespace(outputs=SimpleNamespace(logits=outputs), batch=batch)
        plain = [backbone.model(**toy_pair(backbone.tokenizer, row)).logits[0] for row in turned(rows)]
    singles = torch.stack(plain).reshape(len(rows), 2, -1).sum(dim=1)
    found = (task._logits if hasattr(task, "_logits") else task._outputs)(step)
    assert torch.allclose(found.reshape(singles.shape), singles, atol=1e-5)
    result: np.ndarray = found.numpy()
    return result


def turned(rows: list[Row]) -> list[tuple[str, str]]:
    return [pair for row in rows for pair in ((row["text"], row["pair"]), (row["pair"], row["text"]))]


def toy_pair(tokenizer: Any, pair: tuple[str, str]) -> Any:
    return tokenizer(*pair, return_tensors="pt")


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_swapped_texts_have_the_same_logits_bit_for_bit(backbone: str) -> None:
    toyed, rows = pairs_in_both_orders("classify", "label", backbone)
    swapped = [{**row, "text": row["pair"], "pair": row["text"]} for row in rows]
    assert np.array_equal(logits_in_both_orders(toyed, rows), logits_in_both_orders(toyed, swapped))


def test_pairs_in_both_orders_are_learned(tmp_path: Path) -> None:
    toyed, rows = pairs_in_both_orders("classify", "label", "builtin:tiny-gpt2")
    assert toy.train(toyed, tmp_path)
    task, backbone = toyed.recipe.task, toyed.backbone
    found = Predictor(backbone.model, backbone.tokenizer, task, backbone.limit).predict(toyed.batches.rows)
    assert np.array_equal(found.answers, task.truths(rows))


def test_both_orders_need_a_pair() -> None:
    with pytest.raises(ValueError, match="'both_orders' needs a second text: name its column in 'pair'"):
        Classify(both_orders=True)


def test_a_pair_on_a_tokenizer_that_glues_is_the_text_with_its_delimiter(tmp_path: Path) -> None:
    # In plain transformers such a pair is one text, with the end-of-text token written between.
    toyed = toy.prepared({"task": {"name": "classify", "pair": "pair"}, "model": "builtin:tiny-gpt2"})
    reader = toyed.backbone.tokenizer
    reader.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    lines: list[dict[str, Any]] = []
    rows = Dataset.from_list([{"text": "amber", "pair": "basil wood"}])
    Predictor(toyed.backbone.model, reader, toyed.recipe.task, 128).predict(rows, each=lines.append)
    plain = pipeline("text-classification", str(toy.save(toyed, tmp_path / "model")), device="cpu", top_k=None)
    given = {one["label"]: one["score"] for one in plain(["amber</s>basil wood</s>"])[0]}
    assert given == pytest.approx(lines[0]["scores"], abs=1e-5)
