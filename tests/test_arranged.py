"""The training split as it is trained on: each file by itself, and what is said and refused names the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunesmith import prepare
from tunesmith.core.errors import DataError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.rows import Bins, Joined, each
from tunesmith.core.step import Batch, Update
from tunesmith.data.load import Splits, load
from tunesmith.prepare import Prepared
from tunesmith.recipe import from_values

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into the test's folder."""

    def writing(name: str, content: str) -> Path:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path / name

    return writing


def built(files: Sequence[Path], weights: Sequence[float], **values: Any) -> tuple[Prepared, Splits]:
    """A training on these files; the weights are those of all but the first."""
    mix = [{"file": str(path), "weight": weight} for path, weight in zip(files[1:], weights, strict=True)]
    data = {"train": str(files[0]), "mix": mix, "validation": None, "test": None}
    train = {"precision": "float32", "device": "cpu", "batch_size": 4}
    recipe = from_values({"model": "builtin:tiny-bert", "data": data, "train": train, **values})
    splits = load(recipe.data, recipe.task.columns())
    prepare.learn(recipe, splits)
    return prepare.prepare(recipe, splits), splits


TEXT: list[dict[str, Any]] = [
    {"task": {"name": "fill", "join": True, "max_length": 16}},
    {"model": "builtin:tiny-gpt2", "task": {"name": "generate", "format": "text", "join": True, "max_length": 16}},
]


@pytest.mark.parametrize("values", TEXT, ids=["fill", "generate"])
def test_no_block_of_text_crosses_files(write: Write, values: dict[str, Any]) -> None:
    files = [write("a.txt", "xxxx xx xxxxx\n" * 5), write("b.txt", "yyy yy\n" * 3)]
    with listening() as said:
        made, _ = built(files, [2.0], **values)
    rows, mix, tokenizer = made.batches.rows, made.batches.mix, made.backbone.tokenizer
    assert isinstance(rows, Joined) and mix is not None
    letters = [set(tokenizer.decode(row["input_ids"], skip_special_tokens=True)) - {" "} for row in each(rows)]
    assert letters == [{"x"}] * len(rows.parts[0]) + [{"y"}] * len(rows.parts[1])
    assert [row["file"] for row in each(rows)] == [str(files["y" in one]) for one in letters]
    # The shares are those of blocks, and what is said of the blocks names the file.
    assert list(mix.rows) == [len(part) for part in rows.parts]
    assert list(mix.weights) == [1.0, 2.0] and sum(mix.counts) == len(rows) == len(made.batches.lengths)
    assert [sum(text.startswith(f"{file}: ") for text in said) for file in files] == [1, 1]
    assert mix.told() in said


def test_no_packed_row_crosses_files(write: Write) -> None:
    files = [write(f"{name}.csv", "prompt,completion\n" + f"{name} {name},{name}\n" * 9) for name in ("x", "y")]
    task = {"name": "generate", "format": "prompt_completion", "pack": True, "max_length": 96}
    made, _ = built(files, [1.0], model="builtin:tiny-llama", task=task)
    rows = made.batches.rows
    assert isinstance(rows, Joined) and all(isinstance(part, Bins) for part in rows.parts)
    texts = [[made.backbone.tokenizer.decode(one["input_ids"]) for one in row["members"]] for row in each(rows)]
    own = [{letter for letter in "xy" if any(letter in text for text in bin)} for bin in texts]
    assert own == [{"x"}] * len(rows.parts[0]) + [{"y"}] * len(rows.parts[1])
    assert max(map(len, texts)) > 1 and sum(map(len, texts)) == 18
    update = next(made.batches.stream(0))
    first = Update([Batch({}, {}, [0])], 1.0)
    assert made.batches.where(first).endswith(f" of {files[0]}")
    assert update.batches[0].inputs["input_ids"].shape[1] <= 96


def test_rows_that_are_examples_stay_the_split(write: Write) -> None:
    files = [write("a.csv", "text,label\na,x\nb,y\nc,x\nd,y\n"), write("b.csv", "text,label\ne,x\nf,y\n")]
    made, splits = built(files, [1.0])
    assert made.batches.rows is splits.train
    kept = made.batches.kept
    assert kept is not None
    assert built(files, [1.0])[0].batches.kept == kept
    # What any of the files holds, and which there are, is part of the name.
    others = {kept, built(files[:1], [])[0].batches.kept, built(files[::-1], [1.0])[0].batches.kept}
    write("b.csv", "text,label\ne,x\ng,y\n")
    others.add(built(files, [1.0])[0].batches.kept)
    assert len(others) == 4


def test_one_file_is_as_before(write: Write) -> None:
    made, splits = built([write("a.csv", "text,label\na,x\nb,y\nc,x\nd,y\n")], [])
    assert made.batches.mix is None and made.batches.rows is splits.train
    assert "file" not in next(each(splits.train))


def test_what_tasks_refuse_names_the_files(write: Write) -> None:
    long = " ".join(["amber"] * 300)
    files = [
        write(f"{name}.jsonl", f'{{"question": "q {name}", "choices": ["{choice}", "no"], "label": 0}}\n' * 2)
        for name, choice in (("a", "yes"), ("b", long), ("c", long))
    ]
    with pytest.raises(DataError) as found:
        built(files, [1.0, 1.0], task="choose")
    message = found.value.message
    assert "a.jsonl" not in message
    for file in files[1:]:
        assert f"{file}: Some texts are longer than what the model reads:\n  - line 1: " in message


# A task, rows of it that are fine, and one that it can't learn from.
LEARNED: list[tuple[dict[str, Any], str, str]] = [
    (
        {"name": "answer_span"},
        '{"question": "q", "context": "here", "answers": ["here"]}\n' * 2,
        '{"question": "q", "context": "c", "answers": ["nowhere"]}\n',
    ),
    (
        {"name": "choose"},
        '{"question": "p", "choices": ["a", "b"], "label": "a"}\n' * 2,
        '{"question": "q", "choices": ["a", "b"], "label": "z"}\n',
    ),
    (
        {"name": "embed"},
        '{"text": "a", "pair": "b", "score": 1}\n{"text": "c", "pair": "d", "score": 2}\n',
        '{"text": "e", "score": 3}\n',
    ),
    (
        {"name": "generate", "format": "messages"},
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 2,
        '{"messages": [{"role": "user", "content": "a"}]}\n',
    ),
]


@pytest.mark.parametrize(("task", "good", "bad"), LEARNED, ids=[task["name"] for task, _, _ in LEARNED])
def test_what_can_not_be_learned_names_the_file(write: Write, task: dict[str, Any], good: str, bad: str) -> None:
    files = [write("a.jsonl", good), write("b.jsonl", bad)]
    with pytest.raises(DataError) as found:
        built(files, [1.0], task=task)
    assert f"line 1 of {files[1]}" in found.value.message


def test_what_was_repaired_names_the_file(write: Write) -> None:
    good = '{"tokens": ["a", "b"], "tags": ["B-X", "I-X"]}\n{"tokens": ["c"], "tags": ["O"]}\n'
    files = [write("a.jsonl", good), write("b.jsonl", '{"tokens": ["a", "b"], "tags": ["O", "I-X"]}\n')]
    with listening() as said:
        built(files, [1.0], task={"name": "tag", "repair": True})
    assert any(f"the first: line 1 of {files[1]}, " in text for text in said)


def test_a_weight_too_small_for_an_epoch_is_refused(write: Write) -> None:
    files = [write("a.csv", "text,label\na,x\nb,y\nc,x\nd,y\n"), write("b.csv", "text,label\ne,x\nf,y\n")]
    with pytest.raises(RecipeError, match=rf"gives {files[1]} 0\.99 % of the training, and so none of the 6 examples"):
        built(files, [0.01])
