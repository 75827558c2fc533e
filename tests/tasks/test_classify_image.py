"""Classification of images: what is read, what is changed, what a processor cuts off, and what comes out."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageDraw
from transformers import ConvNextImageProcessorPil, ViTImageProcessorPil

from tests import toy
from tests.toy import outputs_of
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Heatmap, Table
from tunesmith.core.rows import take
from tunesmith.core.step import Batch
from tunesmith.models import artifact
from tunesmith.models.images import new_processor
from tunesmith.prepare import Prepared
from tunesmith.recipe import from_values
from tunesmith.tasks.classify_image import ClassifyImage
from tunesmith.train.checkpoint import weights

KINDS = ("circle", "square", "cross")


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="tunesmith-pictures-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def draw(path: Path, kind: str, number: int = 0, size: tuple[int, int] = (24, 24), mode: str = "RGB") -> Path:
    """A picture of a shape, on paper whose shade is that of the number."""
    image = Image.new("RGB", size, (200 - number * 7 % 60, 190, 180))
    pen, box = ImageDraw.Draw(image), (5 + number % 3, 5, size[0] - 6, size[1] - 6)
    if kind == "circle":
        pen.ellipse(box, fill=(180, 30, 30))
    elif kind == "square":
        pen.rectangle(box, fill=(20, 90, 30))
    else:
        pen.line(box, fill=(10, 10, 90), width=4)
    image.convert(mode).save(path)
    return path


def toy_rows(count: int) -> list[Row]:
    """Pictures of several sizes and kinds of colours."""
    modes = ("RGB", "L", "P", "RGB")
    rows = []
    for number in range(count):
        kind, size = KINDS[number % 3], (20 + number % 5 * 6, 20 + number % 4 * 8)
        path = _folder() / f"{number}.png"
        if not path.exists():
            draw(path, kind, number, size, modes[number % 4])
        rows.append({"image": str(path), "label": kind})
    return rows


def taught(labels: list[str], **settings: Any) -> ClassifyImage:
    task = ClassifyImage(**settings)
    task.learn({"image": "a.png", "label": label} for label in labels)
    return task


def prepared(model: str = "tiny-vit", **values: Any) -> Prepared:
    return toy.prepared({"model": f"builtin:{model}", "task": "classify_image", **values})


def pixels(image: Image.Image) -> list[Any]:
    return np.asarray(image).tolist()


def test_the_loss_and_the_answers_by_hand() -> None:
    # Probabilities 1/4, 1/4, 1/2 for the first image, 1/3 each for the second; their classes weigh 3 and 1/2.
    task = taught(["a", "b", "c"], class_weights={"a": 0.5, "c": 3.0})
    logits = torch.tensor([[0.0, 0.0, math.log(2)], [1.0, 1.0, 1.0]])
    batch = Batch({}, {"targets": torch.tensor([2, 0])})
    loss = task.loss(outputs_of(logits, batch))
    assert loss.item() == pytest.approx(3 * math.log(2) + 0.5 * math.log(3))
    assert task.targets(batch) == 3.5 and taught(["a", "b", "c"]).targets(batch) == 2.0
    answers, lines = task.decode(outputs_of(logits), None)
    assert answers.tolist() == [2, 0]
    assert lines[0] == {"prediction": "c", "confidence": 0.5, "scores": {"c": 0.5, "a": 0.25, "b": 0.25}}


def test_label_smoothing_by_hand() -> None:
    # With e = 0.3 a tenth of the target stands on each of three classes.
    task = taught(["a", "b", "c"], label_smoothing=0.3)
    logits = torch.tensor([[0.0, 0.0, math.log(2)]])
    expected = 0.8 * math.log(2) + 0.1 * math.log(4) + 0.1 * math.log(4)
    found = task.loss(outputs_of(logits, Batch({}, {"targets": torch.tensor([2])})))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_panels_mistakes_and_the_constant() -> None:
    task = taught(["b", "a", "b"])
    truths, answers = np.array([0, 0, 1]), np.array([0, 1, 0])
    table, heatmap = task.panels(truths, answers)
    assert isinstance(table, Table) and table.rows[0] == ["a", 2, 0.5, 0.5, 0.5]
    assert isinstance(heatmap, Heatmap) and heatmap.values == [[1, 1], [1, 0]]
    assert task.mistakes(truths, answers, np.array([0.9, 0.6, 0.7])).tolist() == [2, 1]
    assert task.constant() == ("most frequent class", 1)


def test_wrong_classes_are_told() -> None:
    with pytest.raises(DataError, match=r"No class of this model is called 'sqare'\. Did you mean 'square'"):
        taught(["square", "circle"]).truths([{"label": "sqare"}])
    with pytest.raises(RecipeError, match="no class is called 'x'"):
        taught(["square", "circle"], class_weights={"x": 1.0})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"image": "a.png", "label": "x"}, {"image": "image", "label": "label"}),
        ({"File": "b/a.JPG", "class": "x", "price": 3}, {"image": "File", "label": "class"}),
        ({"image": "a.png"}, None),
        ({"file": "a.txt", "label": "x"}, None),
        ({"text": "a.png", "label": "x"}, None),
    ],
)
def test_columns_that_suit(row: Row, expected: dict[str, str] | None) -> None:
    assert ClassifyImage.suits(list(row), [row]) == expected
    if expected:
        wrong = {**row, next(iter(row)): ""}
        assert ClassifyImage.suits(list(row), [row, wrong, row]) == expected


def test_an_image_that_is_gone_is_told(tmp_path: Path) -> None:
    task, processor = taught(["a", "b"]), new_processor(8, 3)
    with pytest.raises(DataError, match=r"The image .*gone\.png can't be read any more: it is not there"):
        task.collate(task.encode([{"image": str(tmp_path / "gone.png")}], processor, 512), processor)


def test_what_becomes_of_the_images_is_said(tmp_path: Path) -> None:
    kinds = {"RGB": (24, 24), "L": (24, 24), "RGBA": (24, 96)}
    rows = [{"image": str(draw(tmp_path / f"{m}.png", "circle", size=s, mode=m))} for m, s in kinds.items()]
    frames = [Image.new("L", (9, 9), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    table = toy.Dataset.from_list([*rows, {"image": str(tmp_path / "moving.gif")}])
    with listening() as said:
        assert taught(["a"]).arrange(table, ConvNextImageProcessorPil(size={"shortest_edge": 32}), 512) is table
    told = "\n".join(said)
    assert "not RGB are converted to it: 1 grey, 1 with transparency, 1 " in told
    assert "1 images have several frames" in told and "moving.gif: only the first is seen" in told
    assert "Images are seen as 32 x 32 pixels." in told
    assert "4 of 4 training images lose an edge" in told and "RGBA.png 20% is seen" in told


def test_a_processor_without_one_size_is_refused() -> None:
    processor = ViTImageProcessorPil(size={"shortest_edge": 32}, default_to_square=False)
    with pytest.raises(ModelError, match=r"gives images of several sizes, such as .* they make no batch"):
        taught(["a"]).arrange(toy.Dataset.from_list(toy_rows(4)), processor, 512)


@pytest.mark.parametrize(
    ("strengths", "told"),
    [
        ({"flip": 1.5}, "flip is 1.5: it must be above 0 and at most 1"),
        ({"shift": 0.0}, "shift is 0: it must be above 0 and at most 0.5"),
        ({"turn": 0.5}, "turn"),
    ],
)
def test_wrong_changes_are_refused(strengths: dict[str, float], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        from_values({"data": "rows.csv", "task": {"name": "classify_image", "augment": strengths}})


def test_only_what_trains_is_changed() -> None:
    task, processor = taught(list(KINDS), augment={"shift": 0.5}), new_processor(16, 3)
    (example,) = task.encode(toy_rows(1), processor, 512)
    plain = task.collate([example], processor).inputs["pixel_values"]
    assert plain.shape == (1, 3, 16, 16) and plain.dtype == torch.float32
    again, first, other, same = (
        task.collate([{**example, **more}], processor).inputs["pixel_values"]
        for more in ({}, {"seed": 1}, {"seed": 2}, {"seed": 1})
    )
    assert torch.equal(plain, again) and torch.equal(first, same)
    assert not torch.equal(first, plain) and not torch.equal(first, other)


def test_pixels_are_normalised_as_the_processor_says(tmp_path: Path) -> None:
    Image.new("L", (5, 7), 255).save(tmp_path / "white.png")
    task = taught(["a", "b"])
    for channels in (1, 3):
        processor = new_processor(8, channels)
        batch = task.collate(task.encode([{"image": str(tmp_path / "white.png")}], processor, 512), processor)
        # (255 / 255 - 0.5) / 0.5
        assert torch.equal(batch.inputs["pixel_values"], torch.ones(1, channels, 8, 8))
        assert batch.fields == {} and list(batch.rows) == [0]


def test_what_the_model_sees_is_told(tmp_path: Path) -> None:
    path = draw(tmp_path / "wide.png", "circle", size=(60, 30), mode="L")
    task = taught(["a", "b"])
    (example,) = task.encode([{"image": str(path)}], None, 512)
    (seen,) = task.seen(example, ConvNextImageProcessorPil(size={"shortest_edge": 32}))
    assert list(seen.tokens) == ["wide.png", "60 x 30 pixels, L", "seen as 32 x 32, 40% of its area"]
    assert not any(seen.loss)
    assert task.size(example) == 1


def test_a_saved_model_answers_the_same_in_a_plain_pipeline(tmp_path: Path) -> None:
    toyed = prepared(train={"steps": 6, "learning_rate": 0.01})
    toy.train(toyed, tmp_path)
    pipeline = transformers.pipeline("image-classification", model=str(toy.save(toyed, tmp_path / "model")))
    rows, task = take(toyed.batches.rows, list(range(8))), toyed.recipe.task
    batch = task.collate(task.encode(rows, toyed.backbone.tokenizer, 512), toyed.backbone.tokenizer)
    (logits,) = artifact.outputs(toyed.backbone.model, [batch])
    _, lines = task.decode(outputs_of(logits), None)
    for row, line in zip(rows, lines, strict=True):
        theirs = {answer["label"]: answer["score"] for answer in pipeline(row["image"])}
        assert theirs == pytest.approx(line["scores"], abs=2e-6)


@pytest.mark.parametrize("model", ["tiny-vit", "tiny-resnet"])
def test_a_resumed_training_draws_the_same_changes(model: str, tmp_path: Path) -> None:
    values = {
        "task": {"name": "classify_image", "augment": {"flip": 0.5, "shift": 0.2}},
        "train": {"steps": 4, "checkpoint_every": 1},
    }
    whole, halves = prepared(model, **values), prepared(model, **values)
    assert toy.train(whole, tmp_path / "whole")
    asked = iter([False, True])
    assert not toy.train(halves, tmp_path / "halves", interrupted=lambda: next(asked))
    again = prepared(model, **values)
    assert toy.train(again, tmp_path / "halves")
    expected = toy.weights(whole)
    assert all(torch.equal(expected[name], tensor) for name, tensor in toy.weights(again).items())


@pytest.mark.parametrize("method", ["full", "head_only", "bitfit", "norms", "top_blocks"])
def test_statistics_of_batches_move_only_where_the_whole_model_is_saved(method: str, tmp_path: Path) -> None:
    toyed = prepared("tiny-resnet", method=method, train={"steps": 3, "learning_rate": 0.01})
    before = {name: buffer.clone() for name, buffer in toyed.training.model.named_buffers()}
    assert before and set(before) <= set(weights(toyed.training))
    toy.train(toyed, tmp_path)
    after = dict(toyed.training.model.named_buffers())
    moved = [name for name, buffer in before.items() if not torch.equal(buffer, after[name])]
    assert len(moved) == (len(before) if method == "full" else 0)
    recipe, folder = toyed.recipe, toy.save(toyed, tmp_path / "model")
    loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    expected = toyed.training.model.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in loaded.model.state_dict().items())


def test_examples_that_depend_on_their_batch_are_told_of() -> None:
    with listening() as said:
        prepared("tiny-resnet", train={"micro_batch_size": 2})
        prepared("tiny-resnet", method="head_only", train={"micro_batch_size": 2})
    assert sum("depends on the others beside it" in text for text in said) == 1


def test_rows_without_a_class_have_no_targets() -> None:
    task = taught(list(KINDS))
    rows = [{"image": row["image"]} for row in toy_rows(2)]
    batch = task.collate(task.encode(rows, new_processor(8, 3), 512), new_processor(8, 3))
    assert batch.fields == {}
    step: Any = SimpleNamespace(outputs=SimpleNamespace(logits=torch.zeros(2, 3)), batch=batch)
    assert task.decode(step, None)[0].tolist() == [0, 0]
