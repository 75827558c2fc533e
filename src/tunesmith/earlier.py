"""What came before a training, as parts see it: a finished stage, or a file of old examples. And what comes after and
before in a sequence: a stage's recipe with the model that it starts from.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from tunesmith.core.notes import silent
from tunesmith.core.rows import Rows
from tunesmith.core.world import Old
from tunesmith.data.load import load as load_data
from tunesmith.data.read import read
from tunesmith.models import shell
from tunesmith.models.load import Backbone, load_reader
from tunesmith.models.settings import ModelSettings
from tunesmith.recipe import Recipe

KEPT = ("dtype", "quantize", "start")
"""What a later stage may say of its model: which one it is follows from the sequence."""


def of_stage(name: str, recipe: Recipe, model: Path) -> Old:
    """A finished stage, by its resolved recipe and the folder of its model: its head over any body."""
    task = recipe.task

    def find() -> Rows:
        with silent():  # what there is to say of these rows was said when the stage ran
            return load_data(recipe.data, task.columns()).train

    def over(body: nn.Module) -> nn.Module:
        return shell.over(shell.load(model, recipe.model, task, recipe.method, recipe.train.seed), body)

    return Old(name, task, load_reader(str(model), task.reads), find, over)


def of_file(recipe: Recipe, backbone: Backbone, path: str) -> Old:
    """The rows of a file as examples of the task that trains."""

    def find() -> Rows:
        rows = read(Path(path), recipe.task.columns()).rows
        return recipe.task.arrange(rows, backbone.tokenizer, backbone.limit)

    return Old(path, recipe.task, backbone.tokenizer, find)


def following(stage: Recipe, model: str) -> Recipe:
    """A stage that starts from the model in a folder: the one that the stage before it made."""
    kept = {key: getattr(stage.model, key) for key in KEPT}
    return replace(stage, model=ModelSettings(name=model, **kept))


def beginning(stage: Recipe, first: ModelSettings) -> Recipe:
    """A later stage as it would be without those before it: from the model that the first one started from, and
    without what looks back at earlier stages (`looked_back`).
    """
    model = first.model_copy(update={key: getattr(stage.model, key) for key in KEPT})
    return replace(stage, model=model, regularizers=[part for part in stage.regularizers if not part.looks_back])


def looked_back(stage: Recipe) -> list[str]:
    """The names of the regularizers that look back at earlier stages."""
    return [part.word() for part in stage.regularizers if part.looks_back]
