"""Trainings that something comes before: an earlier stage with a head of its own, or a file of old texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn

from tests import toy
from tunesmith import prepare
from tunesmith.core.world import Old
from tunesmith.data.load import Splits
from tunesmith.models import shell
from tunesmith.prepare import Prepared
from tunesmith.recipe import from_values


def stage(
    values: Mapping[str, Any], *, folder: Path | None = None, model: str = "builtin:tiny-bert", task: str = "classify"
) -> Prepared:
    """A training after a stage that had classes of its own, for texts or for words (`tag`)."""
    first = toy.prepared({"model": model, "task": task, "train": {"seed": 5}})
    given = {"model": model, "task": "classify", "data": "rows.csv", **values}
    given["train"] = {"precision": "float32", "device": "cpu", "batch_size": 4, **values.get("train", {})}
    recipe = from_values(given)
    rows = toy.rows_for(recipe.task, 8)
    splits = Splits(rows, None, None, {}, {})
    prepare.learn(recipe, splits)
    return prepare.prepare(recipe, splits, [old(first)], folder)


def old(first: Prepared) -> Old:
    """A training as those after it see it."""

    def over(body: nn.Module) -> nn.Module:
        values = {"model": first.recipe.model.called, "task": first.recipe.task.word(), "train": {"seed": 5}}
        again = toy.prepared(values).training.model
        for parameter in again.parameters():
            parameter.requires_grad_(False)
        return shell.over(again.eval(), body)

    return Old("1-classify", first.recipe.task, first.backbone.tokenizer, lambda: first.batches.rows, over)


def fills(folder: Path, regularizer: Mapping[str, Any]) -> Prepared:
    """A language model that trains on texts, with a file of older ones."""
    texts = folder / "old.txt"
    texts.write_text(
        "\n".join(" ".join(toy.WORDS[place:] + toy.WORDS[:place]) for place in range(16)), encoding="utf-8"
    )
    values = {
        "model": "builtin:tiny-gpt2",
        "task": {"name": "generate", "format": "text", "max_length": 32},
        "regularizers": [
            {**regularizer, "data": str(texts)} if regularizer["name"] != "distill" else dict(regularizer)
        ],
        "train": {"steps": 2},
    }
    lines = [{"line": number + 1, "text": " ".join(toy.WORDS[number:])} for number in range(8)]
    return toy.prepared(values, rows=Dataset.from_list(lines))
