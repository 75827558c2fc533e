"""Small things to test with: rows that fit any task, and a training of a tiny random model on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset

from tunesmith import api, prepare
from tunesmith.core.part import Task
from tunesmith.core.step import Batch
from tunesmith.data.load import Splits
from tunesmith.models import artifact
from tunesmith.prepare import Prepared
from tunesmith.recipe import from_values
from tunesmith.train import loop
from tunesmith.train.log import Log

BACKBONES = ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama", "builtin:tiny-t5"]
WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "iris",
    "jade",
    "kelp",
    "lotus",
    "maple",
    "nectar",
    "olive",
    "pearl",
]
CLASSES = ["no", "yes", "maybe"]


def rows_for(task: Task, count: int = 8) -> Dataset:
    """Rows that fit the task, of many lengths, no two alike: what `toy_rows(count)` of the task's test file gives, or
    else made by kind of column alone.
    """
    with suppress(ModuleNotFoundError):
        own = getattr(import_module(f"tests.tasks.test_{task.word()}"), "toy_rows", None)
        if own is not None:
            return Dataset.from_list([{"line": number + 2, **row} for number, row in enumerate(own(count))])
    rows = []
    for number in range(count):
        row: dict[str, Any] = {"line": number + 2}
        for column in task.columns():
            if column.classes:
                name = CLASSES[number % len(CLASSES)]
                row[column.role] = [name] if column.storage == "texts" else name
            elif column.storage == "number":
                row[column.role] = (number * 7 % count) / 2
            elif column.storage == "texts":
                row[column.role] = WORDS[: number % 5 + 1]
            else:
                length = 1 + number * 5 % 11
                row[column.role] = " ".join(
                    [WORDS[number % 16], *(WORDS[(number * 3 + i) % 16] for i in range(length))]
                )
        rows.append(row)
    return Dataset.from_list(rows)


def prepared(values: Mapping[str, Any], count: int = 8, rows: Dataset | None = None) -> Prepared:
    """A training built from a recipe's values, on a tiny model unless they say otherwise."""
    recipe = from_values(
        {
            "model": "builtin:tiny-bert",
            "task": "classify",
            "data": "rows.csv",
            **values,
            "train": {"precision": "float32", "device": "cpu", "batch_size": 4, **values.get("train", {})},
        }
    )
    splits = Splits(rows or rows_for(recipe.task, count), None, None, {}, {})
    prepare.learn(recipe, splits)
    return prepare.prepare(recipe, splits)


def outputs_of(logits: Any, batch: Batch | None = None) -> Any:
    """A step whose model gave these logits, for tasks to decode."""
    return SimpleNamespace(outputs=SimpleNamespace(logits=logits), batch=batch or Batch({}, {}))


def quiet(model: Any) -> None:
    """Switch dropout off for good, so that runs with other shapes of batches can be compared."""
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "attn_dropout_p"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def train(toy: Prepared, folder: Path, **outside: Any) -> bool:
    """Run the loop on a training."""
    world = {"evaluate": dict, "interrupted": lambda: False, **outside}
    folder.mkdir(parents=True, exist_ok=True)
    return toy.train(loop.Outside(folder / "checkpoints", Log(folder / "metrics.jsonl"), **world))


def weights(toy: Prepared) -> dict[str, Any]:
    """A copy of every weight."""
    return {name: tensor.detach().clone() for name, tensor in toy.training.model.state_dict().items()}


def save(toy: Prepared, folder: Path) -> Path:
    """Write the model or delta to a folder."""
    folder.mkdir(parents=True)
    artifact.write(toy.backbone, toy.recipe.method, toy.recipe.task, folder)
    return folder


def write_csv(path: Path, count: int = 48) -> Path:
    """A file of texts whose first word is their class, in columns that a task finds by itself."""
    names = [CLASSES[number % len(CLASSES)] for number in range(count)]
    words = [" ".join(WORDS[(number * 3 + i * i) % 16] for i in range(number % 7 + 2)) for number in range(count)]
    lines = [f"{name} {text} {number},{name}" for number, (text, name) in enumerate(zip(words, names, strict=True))]
    path.write_text("\n".join(["text,label", *lines, ""]), encoding="utf-8")
    return path


def run(folder: Path, **overrides: Any) -> Path:
    """Train on `rows.csv` in the folder, in the folder `run`; returns the latter."""
    values = {
        "model": "builtin:tiny-bert",
        "data": {"train": str(write_csv(folder / "rows.csv")), "validation": 0.2, "test": 0.2},
        **overrides,
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu", "precision": "float32"}
        | overrides.get("train", {}),
    }
    return api.train(values, out=folder / "run").folder


@torch.inference_mode()
def logits(model: Any, tokenizer: Any, texts: Sequence[str] = ("amber basil cedar", "delta", "fjord grove")) -> Any:
    """What a model of transformers or peft gives for texts, by way of their own padding."""
    encoded = tokenizer(list(texts), padding=True, return_tensors="pt")
    return model.eval()(**encoded).logits
