"""Prediction: in order, in bounded memory, and the same whatever the batch."""

from __future__ import annotations

import json
import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests import toy
from tunesmith.core import rows
from tunesmith.core.tokens import pad
from tunesmith.evaluate import predict
from tunesmith.evaluate.predict import Predictor, portions
from tunesmith.prepare import Prepared
from tunesmith.tasks.classes import cross_entropy


def predictor(toyed: Prepared, precision: str = "float32") -> Predictor:
    backbone = toyed.backbone
    return Predictor(backbone.model, backbone.tokenizer, toyed.recipe.task, backbone.limit, precision)


def at_most(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let portions have so many rows, however short."""
    monkeypatch.setattr(predict, "BATCH", size)
    monkeypatch.setattr(predict, "TOKENS", 0)


def sharp(values: Any = None, count: int = 30) -> Prepared:
    """A toy whose head tells texts apart."""
    toyed = toy.prepared(values or {}, count=count)
    head = [p for name, p in toyed.training.model.named_parameters() if name.startswith(("classifier", "score"))]
    torch.manual_seed(0)
    for parameter in head:
        torch.nn.init.normal_(parameter, std=2.0)
    return toyed


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_answers_do_not_depend_on_the_batch(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toyed = sharp({"model": backbone})
    found: list[list[dict[str, Any]]] = []
    losses = []
    for size in (64, 7, 1):
        at_most(size, monkeypatch)
        lines: list[dict[str, Any]] = []
        losses.append(predictor(toyed).predict(toyed.batches.rows, each=lines.append).loss)
        found.append(lines)
    assert losses[0] == pytest.approx(losses[2], abs=1e-5) == pytest.approx(losses[1], abs=1e-5)
    for one, two, three in zip(*found, strict=True):
        assert one["prediction"] == two["prediction"] == three["prediction"]
        for name, score in one["scores"].items():
            assert two["scores"][name] == pytest.approx(score, abs=1e-5)
            assert three["scores"][name] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_logits_do_not_depend_on_padding(backbone: str) -> None:
    toyed = sharp({"model": backbone})
    examples = toyed.recipe.task.encode(
        [{"text": "amber basil"}, {"text": "cedar"}], toyed.backbone.tokenizer, toyed.backbone.limit
    )
    model, found = toyed.training.model.eval(), []
    for length in (64, 128):
        # T5's head wants one end token in every example.
        long = {"input_ids": [5] * (length - 1) + [toyed.backbone.tokenizer.eos_token_id]}
        inputs = pad([*examples, long], toyed.backbone.tokenizer)
        assert inputs["input_ids"].shape == (3, length)
        with torch.inference_mode():
            found.append(model(**inputs).logits[:2])
    assert (found[0] - found[1]).abs().max() <= 1e-5


def test_answers_stand_in_the_order_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 11)
    at_most(4, monkeypatch)
    toyed = toy.prepared({"train": {"steps": 60, "learning_rate": 3e-3, "batch_size": 10}}, count=30)
    toy.train(toyed, tmp_path)
    lines: list[dict[str, Any]] = []
    whole = predictor(toyed).predict(toyed.batches.rows, each=lines.append)
    assert [line["line"] for line in lines] == list(range(2, 32))
    names = toyed.training.model.config.id2label
    for number, row in enumerate(toyed.batches.rows):  # type: ignore[arg-type, var-annotated]
        alone = predictor(toyed).predict(Dataset.from_list([row]))
        assert alone.answers[0] == whole.answers[number]
        assert lines[number]["prediction"] == names[int(whole.answers[number])]
        assert lines[number]["text"] == row["text"]
    assert len(set(whole.answers.tolist())) > 1


def test_the_loss_is_the_mean_over_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(4, monkeypatch)
    toyed = sharp()
    task = toyed.recipe.task
    batch = task.collate(task.encode(list(toyed.batches.rows), toyed.backbone.tokenizer, 128), toyed.backbone.tokenizer)  # type: ignore[call-overload]
    with torch.inference_mode():
        logits = toyed.training.model.eval()(**batch.inputs).logits
    expected = cross_entropy(logits, batch.fields["targets"], None, 0.0).item() / 30
    assert predictor(toyed).predict(toyed.batches.rows).loss == pytest.approx(expected, rel=1e-5)
    texts = Dataset.from_list([{"text": "amber"}])
    assert math.isnan(predictor(toyed).predict(texts).loss)


def test_no_pile_of_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(4, monkeypatch)
    toyed = sharp(count=60)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def count(module: Any, inputs: Any, outputs: Any) -> None:
        nonlocal most
        alive.append(weakref.ref(outputs.logits))
        most = max(most, sum(one() is not None for one in alive))

    handle = toyed.training.model.register_forward_hook(count)
    predictor(toyed).predict(toyed.batches.rows)
    handle.remove()
    assert len(alive) == 15
    # The one that was just made, and the one before it, which the loop's names still hold.
    assert most <= 2


def test_rows_are_read_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 8)
    toyed = sharp()
    asked: list[int] = []

    class Counted:
        def __len__(self) -> int:
            return len(toyed.batches.rows)

        def __getitem__(self, places: Any) -> Any:
            found = toyed.batches.rows[places]
            asked.append(len(found["text"]))
            return found

    predictor(toyed).predict(Counted())
    assert asked == [8, 8, 8, 6]


def test_rows_are_sorted_by_length_so_that_little_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(4, monkeypatch)
    toyed = sharp()
    shapes: list[int] = []
    hook = toyed.training.model.register_forward_pre_hook(
        lambda module, args, inputs: shapes.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    predictor(toyed).predict(toyed.batches.rows)
    hook.remove()
    assert shapes == sorted(shapes, reverse=True) and shapes[0] > shapes[-1]


def test_portions_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = np.array([3, 9, 1, 4, 4])
    # 9 alone, since two of it are 18 positions; then 4, 4, 3, all padded to 4: 12; a fourth would make it 16.
    assert list(portions(sizes, 12)) == [[1], [3, 4, 0], [2]]
    assert list(portions(sizes, 1000)) == [[1, 3, 4, 0, 2]]
    # A row that is larger than a portion goes alone, and is not left out.
    assert list(portions(sizes, 0)) == [[1], [3], [4], [0], [2]]
    assert list(portions(sizes[:0], 12)) == []
    at_most(2, monkeypatch)
    assert list(portions(sizes, 12)) == [[1], [3, 4], [0, 2]]


def test_short_rows_go_in_larger_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "BATCH", 2)
    monkeypatch.setattr(predict, "TOKENS", 9)
    # 9 + 4 are two rows, whatever they have; then 4 + 3 + 1 are 8 tokens, and a further 2 would be 10.
    assert list(portions(np.array([3, 9, 1, 4, 4]), 1000)) == [[1, 3], [4, 0, 2]]
    assert list(portions(np.array([3, 9, 1, 4, 4, 1, 1]), 1000)) == [[1, 3], [4, 0, 2, 5], [6]]


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_encoded_ahead_changes_nothing(asked: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Several blocks: the next is encoded while one is answered; the task decodes with the tokenizer meanwhile.
    task = {"name": "generate", "answered": 3, "sampling": {"max_new_tokens": 3}}
    toyed = toy.prepared({"model": "builtin:tiny-gpt2", "task": task})
    given = Dataset.from_list([{"prompt": f"{toy.WORDS[n % 16]} {n}", "completion": ["oak"]} for n in range(23)])
    made = replace(predictor(toyed), asked=asked)
    found: list[list[dict[str, Any]]] = []
    for block in (64, 23, 4):
        monkeypatch.setattr(rows, "BLOCK", block)
        lines: list[dict[str, Any]] = []
        made.predict(given, each=lines.append)
        assert [line["prompt"] for line in lines] == given["prompt"]
        found.append([{key: line[key] for key in ("prompt", "prediction", "cut")} for line in lines])
    said = [sum(line["prediction"] is not None for line in lines) for lines in found]
    # Of each block three rows are chosen where nobody asks, and all of the last block, which has three.
    assert said == ([23, 23, 23] if asked else [3, 3, 5 * 3 + 3])
    assert found[0] == found[1] and (not asked or found[1] == found[2])


def test_a_fault_found_ahead_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 8)
    toyed = sharp()
    encode, calls = type(toyed.recipe.task).encode, 0

    def fails(self: Any, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ValueError("the third block")
        return encode(self, *given)

    monkeypatch.setattr(type(toyed.recipe.task), "encode", fails)
    with pytest.raises(ValueError, match="the third block"):
        predictor(toyed).predict(toyed.batches.rows)


@pytest.mark.parametrize(("task", "most"), [("classify", 300), ({"name": "generate", "answered": 0}, 200)])
def test_no_more_positions_at_once_than_fit(task: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    toyed = toy.prepared({"model": "builtin:tiny-gpt2", "task": task}, count=12)
    words = toyed.training.model.config.vocab_size
    # Classes are few; of a model that scores every word the scores count too.
    monkeypatch.setattr(predict, "POSITIONS", 300)
    monkeypatch.setattr(predict, "SCORES", 200 * words)
    shapes: list[torch.Size] = []
    hook = toyed.training.model.register_forward_pre_hook(
        lambda module, args, inputs: shapes.append(inputs["input_ids"].shape), with_kwargs=True
    )
    monkeypatch.setattr(type(toyed.recipe.task), "decode", lambda self, step, tokenizer: _nothing(step))
    predictor(toyed).predict(toy.rows_for(toyed.recipe.task, 12))
    hook.remove()
    assert all(shape.numel() <= most for shape in shapes) and max(shape[0] for shape in shapes) > 1
    assert sum(shape[0] for shape in shapes) == 12


def _nothing(step: Any) -> tuple[np.ndarray, list[dict[str, Any]]]:
    assert step.outputs.logits is not None
    return np.zeros(len(step.batch.rows)), [{} for _ in step.batch.rows]


def test_answers_that_are_objects_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 4)
    at_most(2, monkeypatch)
    # Rows of as many words each: their tuples of tags look like a table of texts.
    given = [{"words": [toy.WORDS[n], toy.WORDS[n + 1]], "tags": ["O", ("O", "B-x")[n % 2]]} for n in range(7)]
    toyed = toy.prepared({"task": "tag"}, rows=Dataset.from_list(given))
    found = predictor(toyed).predict(toyed.batches.rows).answers
    assert found.shape == (7,) and found.dtype == object
    assert all(isinstance(one, tuple) and len(one) == 2 for one in found)
    assert toyed.recipe.task.metrics(found, found)["accuracy"] == 1.0


def test_answers_may_be_rows_of_objects_or_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(3, monkeypatch)
    task = {"name": "generate", "answered": 2, "sampling": {"max_new_tokens": 2}}
    toyed = toy.prepared({"model": "builtin:tiny-gpt2", "task": task})
    found = predictor(toyed).predict(toy.rows_for(toyed.recipe.task)).answers
    # Said, loss, positions, words, bytes; two rows were asked.
    assert found.shape == (8, 5) and found.dtype == object
    assert sum(isinstance(said, str) for said in found[:, 0]) == 2 and sum(said is None for said in found[:, 0]) == 6
    classes = toy.prepared({})
    numbers = predictor(classes).predict(classes.batches.rows).answers
    assert numbers.shape == (8,) and np.issubdtype(numbers.dtype, np.integer)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    toyed = sharp()
    toyed.training.model.train(training)
    before = toy.weights(toyed)
    first, second = (predictor(toyed).predict(toyed.batches.rows) for _ in range(2))
    # Dropout is off while predicting, and as it was afterwards.
    assert first.loss == second.loss
    assert toyed.training.model.training is training
    assert all(torch.equal(before[name], tensor) for name, tensor in toy.weights(toyed).items())
    assert all(parameter.grad is None for parameter in toyed.training.model.parameters())


def test_a_file_has_one_line_a_row(tmp_path: Path) -> None:
    toyed = sharp({"task": "regress"})
    out = tmp_path / "deep" / "answers.jsonl"
    found = predictor(toyed).predict(toyed.batches.rows, out=out)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["prediction"] for line in lines] == pytest.approx(found.answers.tolist(), abs=1e-6)
    assert [line["line"] for line in lines] == list(range(2, 32))
    assert np.isnan(found.confidences).all()


def test_a_failure_leaves_no_half_file(tmp_path: Path) -> None:
    toyed = sharp()
    toyed.training.model.forward = None
    with pytest.raises(TypeError):
        predictor(toyed).predict(toyed.batches.rows, out=tmp_path / "answers.jsonl")
    assert not list(tmp_path.iterdir())


def test_low_precision_is_that_of_the_matrix_products_alone() -> None:
    toyed = sharp()
    dtypes: list[torch.dtype] = []
    query = toyed.training.model.get_submodule("bert.encoder.layer.0.attention.self.query")
    hook = query.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    exact, low = (predictor(toyed, kind).predict(toyed.batches.rows) for kind in ("float32", "bfloat16"))
    hook.remove()
    assert dtypes == [torch.float32, torch.bfloat16]
    assert low.loss == pytest.approx(exact.loss, rel=0.05)
    assert {parameter.dtype for parameter in toyed.training.model.parameters()} == {torch.float32}
