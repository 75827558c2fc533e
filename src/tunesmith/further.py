"""The recipe of a run, trained once more with some values changed, for a suite that asks (`core.finished.Again`).

Each such training has a folder of its own inside the run, `also/NAME`, which is a run without suites: killed or
interrupted, it goes on from its last checkpoint; finished, it is not repeated.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np

from tunesmith import own_tokenizer, prepare, trained
from tunesmith.account import METRICS
from tunesmith.core.document import Document
from tunesmith.core.errors import DataError, DivergedError, ModelError, RecipeError, RunFolderError
from tunesmith.core.files import read_json, write_json, writing_folder
from tunesmith.core.finished import Further
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import note
from tunesmith.core.rows import Joined, Rows
from tunesmith.core.seeding import seed_of
from tunesmith.core.world import Old
from tunesmith.data import sources
from tunesmith.data.load import Splits
from tunesmith.interrupt import Interrupted
from tunesmith.measure import Answers, answering
from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe, merged, resolve
from tunesmith.serve.session import MODEL, read_recipe
from tunesmith.train.log import Log, Watcher, lines
from tunesmith.trained import CHECKPOINTS

ALSO, ASKED = "also", "asked.json"
RANDOM = {"weights": "random"}
"""What a change of `model` says that means: this backbone and its tokenizer, with random weights."""


@dataclass(frozen=True)
class FromRun:
    """What trains the recipe of a run again. recipe, splits: the run's own; before: the stages before it."""

    folder: Path
    recipe: Recipe
    splits: Splits
    before: Sequence[Old] = ()
    watch: Watcher | None = None

    @classmethod
    def of(cls, folder: Path, prepared: Prepared, splits: Splits, watch: Watcher | None) -> FromRun:
        """The same for a run that has just been trained."""
        world = prepared.training.world
        return cls(folder, prepared.recipe, splits, world.earlier if world else (), watch)

    def __call__(self, name: str, changes: Mapping[str, Any], *, share: float = 1.0) -> Further:
        """Train, go on, or only load what is trained; changes that can't be, and a training that diverged, are told in
        `failed`. Raises Interrupted when the user interrupts it.
        """
        # Models stand in cycles, and those of the training before this one must not stay beside it.
        gc.collect()
        folder = self.folder / ALSO / name
        try:
            recipe = changed(self.recipe, changes)
            now = self._answers(folder, recipe, share)
        except DivergedError as error:
            return Further(name, failed=error.message, diverged=True)
        except (RecipeError, ModelError, DataError) as error:
            return Further(name, failed=error.message)
        return Further(name, now, *_spent(folder))

    def _answers(self, folder: Path, recipe: Recipe, share: float) -> Answers:
        told = f"{ALSO}/{folder.name}"
        asked = json.loads(json.dumps({"recipe": recipe.values(), "share": share}))
        if folder.exists() and not _as_asked(folder, asked):
            note(f"{told} was trained with other settings: it is trained anew.")
            shutil.rmtree(folder)
        if not folder.exists():
            note(f"A further training, in {told}.")
            return self._finish(folder, self._begin(folder, recipe, asked))
        recipe = read_recipe(folder)
        if (folder / MODEL).is_dir():
            note(f"{told} is trained already.")
            loaded = trained.load(folder / MODEL, recipe)
            loaded.model.to(recipe.train.device)  # type: ignore[arg-type]
            return answering(loaded, recipe)
        note(f"{told} goes on where it stopped.")
        return self._finish(folder, prepare.prepare(recipe, self._splits(share), self.before, folder))

    def _begin(self, folder: Path, recipe: Recipe, asked: Mapping[str, Any]) -> Prepared:
        recipe = prepare.settle(recipe)
        prepare.check_fit(recipe, self.splits)
        # Classes and words are those of all rows, however many of them train.
        prepare.learn(recipe, self.splits)
        prepare.check_random(recipe)
        recipe = own_tokenizer.of(recipe, self.splits.train)
        splits = self._splits(asked["share"])
        prepared = prepare.prepare(recipe, splits, self.before, folder)
        with writing_folder(folder) as temporary:
            trained.lay_out(temporary, prepared, splits)
            write_json(temporary / ASKED, asked)
        return prepared

    def _finish(self, folder: Path, prepared: Prepared) -> Answers:
        # Only the rows that validate are read here: those that train stand in the batches.
        if not trained.train(folder, prepared, self.splits, Log(folder / METRICS, self.watch)):
            raise Interrupted(f"The further training in {folder} was interrupted.")
        loaded = trained.save(folder, prepared)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        return answering(loaded, prepared.recipe)

    def _splits(self, share: float) -> Splits:
        if share == 1:
            return self.splits
        # No file's rows any more: what is kept of the file's examples must not stand for them, nor may the training be
        # resumed by itself, on all of them.
        known = {name: source for name, source in self.splits.sources.items() if name in ("validation", "test")}
        train = part_of(self.splits.train, share, self.recipe.train.seed)
        return replace(self.splits, train=train, sources=known)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with changes over its values and without suites, of parts of its own. A learning rate that is the
    default of its method (or of random weights) is chosen anew for another one. Raises RecipeError.
    """
    values, changes = recipe.values(), dict(changes)
    if changes.get("model") == RANDOM:
        if recipe.model.scratch:
            raise RecipeError("The run's model starts from random weights already.")
        changes["model"] = {**values["model"], "name": None, "like": recipe.model.name, **RANDOM}
    values = merged(values, {**changes, "evaluate": []})
    found = resolve(Document(values, {}))
    chosen = prepare.usual_rate(recipe) == recipe.train.learning_rate
    if chosen and "learning_rate" not in changes.get("train", {}):
        found = replace(found, train=found.train.model_copy(update={"learning_rate": prepare.usual_rate(found)}))
    return replace(found, data=sources.absolute(found.data))


def part_of(rows: Rows, share: float, seed: int) -> Rows:
    """A share of the rows of a split, of each file of several; a larger share holds the rows of a smaller one."""
    if isinstance(rows, Joined):
        return replace(rows, parts=[part_of(part, share, seed) for part in rows.parts])
    order = np.random.default_rng(seed_of(seed, "share")).permutation(len(rows))
    return cast(Mapped, rows).select(np.sort(order[: ceil(share * len(rows))]))


def _as_asked(folder: Path, asked: Mapping[str, Any]) -> bool:
    if not (folder / ASKED).is_file():
        raise RunFolderError(
            f"{folder} is no further training of this run: nothing in it is touched.", hint="Move it away."
        )
    return bool(read_json(folder / ASKED) == asked)


def _spent(folder: Path) -> tuple[float, int]:
    """Seconds of the updates, and how many parameters trained."""
    record = lines(folder / METRICS)
    seconds = sum(line["seconds"] for line in record if line["event"] == "step")
    return seconds, next(line["trained_parameters"] for line in record if line["event"] == "start")
