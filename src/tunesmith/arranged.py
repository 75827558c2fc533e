"""The training split as it is trained on: arranged by the task, each of several files by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import DataError, raise_together
from tunesmith.core.notes import about, note
from tunesmith.core.part import Task
from tunesmith.core.rows import Joined, Rows
from tunesmith.data import cache
from tunesmith.data.load import Splits
from tunesmith.data.sources import is_mixed
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.train.mix import Mix


@dataclass(frozen=True)
class Arranged:
    """rows: what goes to `encode`. mix: how much of each file an epoch takes; None where there is one file. kept: where
    the encoded examples are to lie; None where they are not kept.
    """

    rows: Rows
    mix: Mix | None
    kept: Path | None


def arrange(recipe: Recipe, splits: Splits, backbone: Backbone) -> Arranged:
    """Arrange the training split; how it is mixed is said. What the task refuses raises DataError, all files'
    together.
    """
    if isinstance(splits.train, Joined):
        parts = _each(recipe.task, splits.train, backbone)
        same = all(one is other for one, other in zip(parts, splits.train.parts, strict=True))
        rows: Rows = splits.train if same else Joined(parts, splits.train.names)
        weights = [1.0, *(one.weight for one in recipe.data.mix)]
        mix = Mix(splits.train.names, weights, [len(part) for part in parts], recipe.data.ordered_by(recipe.train.seed))
        note(mix.told())
    else:
        rows, mix = recipe.task.arrange(splits.train, backbone.tokenizer, backbone.limit), None
    return Arranged(rows, mix, _kept(recipe, splits, backbone) if rows is splits.train else None)


def _each(task: Task, train: Joined, backbone: Backbone) -> Sequence[Rows]:
    """The rows of each file: no block of text and no packed row holds rows of two."""
    found: list[Rows] = []
    errors: list[DataError] = []
    for name, part in zip(train.names, train.parts, strict=True):
        try:
            with about(name):
                found.append(task.arrange(part, backbone.tokenizer, backbone.limit))
        except DataError as error:
            errors.append(DataError(f"{name}: {error.message}", hint=error.hint))
    raise_together(errors)
    return found


def _kept(recipe: Recipe, splits: Splits, backbone: Backbone) -> Path | None:
    """The file of the training split's encoded examples; None where rows are no file's, or images."""
    sources = [source for name, source in splits.sources.items() if name == "train" or is_mixed(name)]
    if not sources or recipe.task.reads != "text":
        return None
    told = [value for source in sources for value in (source["sha256"], source["rows"])]
    data = recipe.data.model_dump(mode="json", exclude={"order_seed"})
    return cache.examples(recipe.task, *told, splits.columns, data, backbone.identity.tokenizer, backbone.limit)
