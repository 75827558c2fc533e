"""A tokenizer of one's own: for a model from scratch, trained on the texts of the training split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tunesmith.core.column import Row
from tunesmith.core.errors import RecipeError
from tunesmith.core.notes import note
from tunesmith.core.part import Task
from tunesmith.core.rows import Rows, each
from tunesmith.data.sizes import sizes
from tunesmith.models import load as models
from tunesmith.models import origin, scratch
from tunesmith.recipe import Recipe

LEARNED_FROM = 100_000_000
"""Most characters that a tokenizer is trained on."""


def of(recipe: Recipe, rows: Rows) -> Recipe:
    """The recipe with a tokenizer that is trained on the texts of these rows, if its model is to have one and has none
    yet.
    """
    model = recipe.model
    if not model.scratch or (model.family is None and model.vocabulary is None) or model.tokenizer is not None:
        return recipe
    if recipe.task.reads != "text":
        if model.vocabulary is None:
            return recipe
        raise RecipeError("model.vocabulary: the task reads images, not words.", hint="Leave it out.")
    config = origin.kind_from_nothing(model)
    models.class_for(config, recipe.task.auto_classes, model.called)
    # Of a larger split every n-th row: the tokenizer's counts must fit into memory.
    every = int(sizes(rows, recipe.task).sum()) // LEARNED_FROM + 1
    if every > 1:
        note(f"The tokenizer is trained on one of every {every} training rows.")
    chosen = (row for number, row in enumerate(each(rows)) if number % every == 0)
    texts = (text for row in chosen for text in _texts(row, recipe.task))
    trained = scratch.train_tokenizer(texts, model.vocabulary or scratch.VOCABULARY, config)
    return replace(recipe, model=model.with_tokenizer(trained))


def _texts(row: Row, task: Task) -> Iterator[str]:
    """The texts of a row that a model reads or writes; names of classes are none."""
    for column in task.columns():
        value = row.get(column.role)
        if column.classes or column.path or value is None:
            continue
        if column.storage == "text":
            yield value
        elif column.storage == "texts" and not column.target:
            # Words of one text: behind a blank, as they stand there.
            yield " ".join(value)
        elif column.storage == "turns":
            yield from (turn["content"] for turn in value)
