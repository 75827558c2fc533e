"""Multiple choice: labels in three forms, a sequence a choice, a softmax over each row's own, cuts of the context."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from transformers import AutoModelForMultipleChoice, pipeline

from tests import toy
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Bars
from tunesmith.core.step import Batch, Step
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks.choose import Choose

METHODS = ["full", "head_only", "lora", "prefix", "prompt"]


def toy_rows(count: int) -> list[dict[str, Any]]:
    """Rows with two to four choices."""
    rows = []
    for number in range(count):
        words = [toy.WORDS[(number * 5 + i * 3) % 16] for i in range(2 + number % 3)]
        question = " ".join(toy.WORDS[(number + i) % 16] for i in range(1 + number * 5 % 7))
        rows.append({"text": f"{number} {question}", "choices": words, "label": str(number * 7 % len(words))})
    return rows


def taught(labels: list[str], texts: list[str] | None = None, **settings: Any) -> Choose:
    task = Choose(**settings)
    task.learn({"text": "q", "choices": texts or ["one", "two", "three"], "label": label} for label in labels)
    return task


def step_of(task: Choose, rows: list[Row], logits: list[float]) -> Step:
    batch = task.collate(task.encode(rows, tiny_tokenizer(), 128), tiny_tokenizer())
    step: Any = SimpleNamespace(outputs=SimpleNamespace(logits=torch.tensor(logits)[:, None]), batch=batch)
    return step


ROWS: list[Row] = [
    {"text": "q", "choices": ["a", "b"], "label": "1"},
    {"text": "r", "choices": ["c", "d", "e"], "label": "0"},
]
# Shares 1/4 and 3/4; then 1/2, 1/4 and 1/4.
LOGITS = [0.0, math.log(3), math.log(2), 0.0, 0.0]


def test_loss_and_answers_by_hand() -> None:
    task = taught(["0", "1"])
    step = step_of(task, ROWS, LOGITS)
    assert task.loss(step).item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2), rel=1e-6)
    assert task.targets(step.batch) == 2
    answers, lines = task.decode(step, None)
    assert answers.tolist() == [1, 0] == task.truths(ROWS).tolist()
    assert lines[0] == {"prediction": 1, "confidence": 0.75, "scores": {"a": 0.25, "b": 0.75}}
    assert lines[1] == {"prediction": 0, "confidence": 0.5, "scores": {"c": 0.5, "d": 0.25, "e": 0.25}}


def test_choices_that_a_row_has_not_have_no_gradient() -> None:
    task, logits = taught(["0", "1"]), torch.tensor(LOGITS, requires_grad=True)
    step = step_of(task, ROWS, LOGITS)
    step.outputs.logits = logits[:, None]
    task.loss(step).backward()
    # Share minus one for the right choice, share for the others; each row's sum is 0.
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([0.25, -0.25, -0.5, 0.25, 0.25])


@torch.inference_mode()
def test_permuted_choices_permute_the_shares() -> None:
    toyed = toy.prepared({"task": "choose"})
    task, reader = toyed.recipe.task, toyed.backbone.tokenizer
    row: Row = {"text": "which", "choices": ["amber", "basil wood", "oak"]}
    turned = {**row, "choices": ["oak", "amber", "basil wood"]}
    model = toyed.training.model.eval()
    batch = task.collate(task.encode([row, turned], reader, 128), reader)
    first, second = task.decode(Step(model, task, batch), reader)[1]
    assert first["scores"] == pytest.approx(second["scores"], abs=1e-6)


@pytest.mark.parametrize(
    ("form", "labels", "shown"),
    [
        ("number", ["0", "2"], 1),
        ("letter", ["A", "c)"], "B"),
        ("letter", ["(b).", "(a)"], None),
        ("text", ["one", "three"], "two"),
    ],
)
def test_forms_of_labels(form: str, labels: list[str], shown: Any) -> None:
    if shown is None:
        with pytest.raises(DataError, match="names none of the 3 choices"):
            taught(labels)
        return
    task = taught(labels)
    assert task.state() == {"form": form, "position": 0}
    assert task.truths([{"text": "q", "choices": ["one", "two", "three"], "label": label} for label in labels]).tolist() == [0, 2]  # fmt: skip  # noqa: E501
    step = step_of(task, [{"text": "q", "choices": ["one", "two", "three"]}], [0.0, 1.0, 0.5])
    assert "targets" not in step.batch.fields
    assert task.decode(step, None)[1][0]["prediction"] == shown


def test_labels_that_can_mean_two_things_are_refused_unless_told() -> None:
    texts = ["1", "0"]
    with pytest.raises(DataError, match="as a choice's number or as its text") as caught:
        taught(["0", "1"], texts)
    assert "task.form=number" in caught.value.hint
    rows = [{"text": "q", "choices": texts, "label": "0"}]
    assert taught(["0", "1"], texts, form="number").truths(rows).tolist() == [0]
    assert taught(["0", "1"], texts, form="text").truths(rows).tolist() == [1]
    # Where both name the same choice, nobody need ask; where one reading fails in a row, it is the other.
    assert taught(["0", "1"], ["0", "1"]).state()["form"] == "number"
    assert taught(["1", "2", "3"], ["1", "2", "3"]).state()["form"] == "text"


def test_labels_that_fit_nothing_are_told_with_their_lines() -> None:
    rows = [{"text": "q", "choices": ["x", "y"], "label": label, "line": n + 2} for n, label in enumerate("0159")]
    with pytest.raises(DataError) as caught:
        Choose().learn(rows)
    assert "line 4: The label '5' names none of the 2 choices; allowed: the numbers 0 to 1." in caught.value.message
    assert "line 5" in caught.value.message and "line 2" not in caught.value.message
    with pytest.raises(DataError, match=r"allowed: the letters A to B\."):
        taught(["0"], ["x", "y"], form="letter")
    with pytest.raises(DataError, match=r"'z' names none of the 2 choices; allowed: the numbers 0 to 1\."):
        taught(["0"], ["x", "y"]).truths([{"text": "q", "choices": ["x", "y"], "label": "z"}])


def test_numbers_from_one_are_suspected() -> None:
    with listening() as notes:
        taught(["1", "2"] * 10)
    assert notes == [
        "Labels are read as a choice's number.",
        "None of the 20 labels is 0: numbers of choices count from 0, not from 1.",
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "x", "choices": ["a", "b"], "label": 1},
         {"text": "question", "choices": "choices", "label": "label"}),
        ({"Context": "c", "question": "x", "options": '["a", "b"]', "Answer": "B"},
         {"text": "question", "context": "Context", "choices": "options", "label": "Answer"}),
        ({"question": "x", "choices": ["a", "b"], "label": 2}, None),
        ({"question": "x", "choices": "a", "label": 0}, None),
        ({"question": "x", "choices": ["a", "b"]}, None),
        ({"text": "x", "label": "a"}, None),
    ],
)  # fmt: skip
def test_columns_that_suit(row: Row, expected: dict[str, str] | None) -> None:
    assert Choose.suits(list(row), [row]) == expected


def test_a_wrong_row_among_others_is_a_fault_and_no_other_task() -> None:
    right, wrong = ({"question": "x", "choices": ["a", "b"], "label": label} for label in ("B", "C"))
    assert Choose.suits(list(right), [right, wrong, right]) and not Choose.suits(list(right), [right, wrong])


def test_a_sequence_a_choice() -> None:
    reader = tiny_tokenizer()
    row: Row = {"text": "q?", "choices": ["a", "bc"], "label": "0"}
    (example,) = taught(["0", "1"]).encode([row], reader, 128)
    assert [reader.decode(part["input_ids"]) for part in example["parts"]] == ["<s>q?</s>a</s>", "<s>q?</s>bc</s>"]
    (example,) = taught(["0", "1"], context="story").encode([{**row, "context": "long ago"}], reader, 128)
    told = [reader.decode(part["input_ids"]) for part in example["parts"]]
    assert told == ["<s>long ago</s>q? a</s>", "<s>long ago</s>q? bc</s>"]
    assert [seen.name for seen in Choose().seen(example, reader)] == ["choice 0", "choice 1"]
    assert [column.role for column in Choose(context="story").columns()] == ["text", "context", "choices", "label"]


def test_the_context_is_cut_and_never_a_choice() -> None:
    reader, task = tiny_tokenizer(), taught(["0", "1"], max_length=12)
    row: Row = {"text": "abcdefgh", "choices": ["x", "uvw"], "label": "0"}
    cut, whole = task.encode([row, {**row, "text": "ab"}], reader, 128)
    shown = [reader.decode(part["input_ids"]) for part in cut["parts"]]
    assert shown == ["<s>abcdefgh</s>x</s>", "<s>abcdef</s>uvw</s>"]
    assert (cut["cut"], whole["cut"]) == (True, False)
    assert task.collate([cut, whole], reader).cut == 1


def test_choices_that_do_not_fit_are_told_before_training() -> None:
    rows = [{**row, "line": 2 + number} for number, row in enumerate(toy_rows(8))]
    rows[3]["choices"] = ["x" * 200, "y"]
    rows[6]["choices"] = ["y", "z" * 125]
    with pytest.raises(DataError) as caught:
        toy.prepared({"task": "choose"}, rows=Dataset.from_list(rows))
    told = caught.value.message
    # 128 tokens, less three special ones and one of the question.
    assert f"line 5: '{'x' * 40}…' has 200 tokens, is not to be cut, and only 124 fit" in told and "line 8" in told
    rows[3]["choices"][0], rows[6]["choices"][1] = "x" * 124, "z" * 124
    assert toy.prepared({"task": "choose"}, rows=Dataset.from_list(rows)).batches.updates_an_epoch == 2


def test_metrics_panels_and_mistakes() -> None:
    task = taught(["0", "2", "2"])
    truths, answers = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1])
    assert task.metrics(truths, answers) == {"accuracy": 0.5}
    assert task.constant() == ("most frequent position", 2)
    (bars,) = task.panels(truths, answers)
    assert isinstance(bars, Bars) and bars.series == {"right": [1.0, 1.0, 2.0], "given": [1.0, 1.0, 2.0]}
    assert task.mistakes(truths, answers, np.array([0.9, 0.4, 0.9, 0.8])).tolist() == [3, 1]


def test_scores_of_choices_that_begin_alike_keep_apart() -> None:
    texts = ["x" * 60 + "a", "x" * 60 + "b", "y"]
    step = step_of(taught(["0"], texts), [{"text": "q", "choices": texts}], [0.0, 0.0, 0.0])
    assert list(Choose().decode(step, None)[1][0]["scores"]) == ["x" * 60 + " (0)", "x" * 60 + " (1)", "y"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_it_trains_with_methods_that_put_things_before_the_text(backbone: str, method: str, tmp_path: Path) -> None:
    settings: Any = {"name": method, "length": 3} if method in ("prefix", "prompt") else method
    toyed = toy.prepared({"task": "choose", "model": backbone, "method": settings, "train": {"steps": 2}})
    before = toy.weights(toyed)
    toy.train(toyed, tmp_path)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in toy.weights(toyed).items())
    predictor = Predictor(toyed.backbone.model, toyed.backbone.tokenizer, toyed.recipe.task, toyed.backbone.limit)
    whole, single = predictor.predict(toyed.batches.rows), []
    for number in range(8):
        single.append(predictor.predict(toyed.batches.rows.select([number])).loss)
    assert whole.loss == pytest.approx(sum(single) / 8, rel=1e-4)


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_plain_libraries_give_the_same_scores(backbone: str, tmp_path: Path) -> None:
    toyed = toy.prepared({"task": "choose", "model": backbone})
    folder = toy.save(toyed, tmp_path / "model")
    rows: list[Row] = [{"text": "Which wood?", "choices": ["oak", "glass pane", "tin"]}]
    predictor = Predictor(toyed.backbone.model, toyed.backbone.tokenizer, toyed.recipe.task, toyed.backbone.limit)
    lines: list[dict[str, Any]] = []
    predictor.predict(Dataset.from_list(rows), each=lines.append)
    expected = list(lines[0]["scores"].values())
    pairs = [(rows[0]["text"], choice) for choice in rows[0]["choices"]]
    plain = pipeline("text-classification", str(folder), device="cpu")
    given = plain([{"text": text, "text_pair": pair} for text, pair in pairs], function_to_apply="none")
    scores = torch.tensor([one["score"] for one in given])
    assert scores.softmax(dim=0).tolist() == pytest.approx(expected, abs=1e-5)
    if backbone == "builtin:tiny-bert":
        crossed = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity()).predict(pairs)
        assert crossed == pytest.approx(scores.numpy(), abs=1e-5)
        # BERT's model for multiple choice has the same layers, by the same names.
        whole = AutoModelForMultipleChoice.from_pretrained(folder).eval()
        encoded = toyed.backbone.tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = whole(**{name: tensor[None] for name, tensor in encoded.items()}).logits[0]
        assert logits.tolist() == pytest.approx(scores.tolist(), abs=1e-5)


def test_a_batch_is_told_apart_by_its_owners() -> None:
    task = taught(["0", "1"])
    batch: Batch = step_of(task, ROWS, LOGITS).batch
    assert batch.fields["owners"].tolist() == [0, 0, 1, 1, 1]
    assert batch.inputs["input_ids"].shape[0] == 5
