"""Measure a finished model: the suites of its recipe when a run ends, or any suite on any labelled file later."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import PreTrainedModel

from tunesmith import prepare
from tunesmith.core import registry
from tunesmith.core.column import Row
from tunesmith.core.errors import RunFolderError, UserError
from tunesmith.core.files import read_json
from tunesmith.core.finished import Again, Finished, NoBefore, Predictions
from tunesmith.core.notes import note, silent, warn
from tunesmith.core.panel import Result
from tunesmith.core.part import Reader, Suite, Task
from tunesmith.core.rows import Rows
from tunesmith.data.read import read
from tunesmith.evaluate.predict import Predictor
from tunesmith.evaluate.unmeasured import unmeasured
from tunesmith.models import load as models
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.serve import session
from tunesmith.train import faster
from tunesmith.train.speed import SpeedSettings

EVALUATION = "evaluation.json"
Spec = str | Mapping[str, Any]
"""A suite by its name, or a mapping with its settings."""
MANY = 200
"""Rows from which on it pays to make the shortcuts ready."""


@dataclass(frozen=True)
class Answers:
    """A model that is asked with every shortcut that its recipe allows (`core.finished.Asked`)."""

    predictor: Predictor
    speed: SpeedSettings

    @property
    def model(self) -> PreTrainedModel:
        """The model, with the task's head."""
        return self.predictor.model

    @property
    def tokenizer(self) -> Reader:
        """What turns its rows into numbers."""
        return self.predictor.tokenizer

    @property
    def task(self) -> Task:
        """The task of its head."""
        return self.predictor.task

    @property
    def limit(self) -> int:
        """The most tokens that it reads."""
        return self.predictor.limit

    def predict(self, rows: Rows, out: Path | None = None) -> Predictions:
        """Its answers to rows; their lines go to the file `out`."""
        with self._quickly(rows):
            return self.predictor.predict(rows, out=out)

    def scores(self, rows: Rows) -> np.ndarray | None:
        """Its scores of classes, [rows, classes]; None where the task has none."""
        with self._quickly(rows):
            return self.predictor.scores(rows)

    def features(self, rows: Rows, *, layers: bool = False) -> np.ndarray:
        """What its backbone makes of rows: [rows, hidden], or of every layer [rows, 1 + blocks, hidden]."""
        # Without the shortcuts: they leave out tokens that the head does not read.
        return self.predictor.features(rows, layers=layers)

    def _quickly(self, rows: Rows) -> AbstractContextManager[object]:
        # Few rows are answered before the shortcuts are ready.
        return faster.answering(self.model, self.speed) if len(rows) > MANY else nullcontext()


def answering(backbone: Backbone, recipe: Recipe) -> Answers:
    """A model of the recipe, ready to be asked."""
    predictor = Predictor(backbone.model, backbone.tokenizer, recipe.task, backbone.limit, recipe.train.precision)
    return Answers(predictor, recipe.speed)


@dataclass(frozen=True)
class AtHand:
    """What is at hand of the run that is measured. folder: where not given, the one that holds the predictions. train:
    the training rows. again: what trains the recipe once more. sources: of each split, where its rows were read.
    """

    folder: Path | None = None
    train: Rows | None = None
    again: Again | None = None
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def suites(
    recipe: Recipe, backbone: Backbone, splits: Mapping[str, Rows], predictions: Path, at_hand: AtHand | None = None
) -> dict[str, Any]:
    """What every suite of the recipe finds on the held-out splits, as JSON values; of one that fails, the reason."""
    return results(recipe.suites, finished(recipe, backbone, splits, predictions, at_hand))


def results(chosen: Sequence[Suite], finished: Finished) -> dict[str, Any]:
    """What suites find, by their names, as JSON values."""
    return {suite.word(): _explained(suite, finished.task, _measured(suite, finished)) for suite in chosen}


def finished(
    recipe: Recipe, backbone: Backbone, splits: Mapping[str, Rows], predictions: Path, at_hand: AtHand | None = None
) -> Finished:
    """The model as suites see it; it has answered the held-out splits.

    Predictions go to `predictions`, a file a split. The untrained model, a baseline, is the recipe's backbone loaded
    anew.
    """
    at_hand = at_hand or AtHand()
    now = answering(backbone, recipe)
    found = {name: now.predict(rows, predictions / f"{name}.jsonl") for name, rows in splits.items()}
    for name, predictions_of in found.items():
        if predictions_of.cut:
            note(f"{predictions_of.cut:,} of {len(splits[name]):,} {name} rows are longer than the limit and were cut.")

    @cache
    def before() -> Answers:
        fresh = prepare.load_backbone(recipe)
        fresh.model.to(backbone.model.device)  # type: ignore[arg-type]
        return answering(fresh, recipe)

    @cache
    def untrained(name: str) -> Predictions:
        return before().predict(splits[name])

    return Finished(
        task=recipe.task,
        splits=splits,
        predict=found.__getitem__,
        untrained=untrained,
        lines=lambda name, places: _lines(predictions / f"{name}.jsonl", places),
        seed=recipe.train.seed,
        train=lambda: at_hand.train,
        now=now,
        before=before,
        read=lambda path: read(path, recipe.task.columns()).rows,
        folder=at_hand.folder or predictions.parent,
        headed=lambda classes: under(recipe, classes).to(backbone.model.device),  # type: ignore[arg-type]
        recipe=recipe.values(),
        again=at_hand.again,
        files={name: Path(source["path"]) for name, source in at_hand.sources.items() if name in splits},
    )


def under(recipe: Recipe, classes: tuple[str, ...]) -> PreTrainedModel:
    """The recipe's backbone, before any training, under the head of the first of these transformers classes that knows
    it. What of the head is fresh stands in its configuration (`anatomy.FRESH`) and is not said.
    """
    with silent():
        return models.load(recipe.model, classes, {}, recipe.train.seed, recipe.task.reads).model


def _measured(suite: Suite, finished: Finished) -> Result:
    """What a suite finds. One that fails takes nothing else along: its reason is said, and stands in its place."""
    try:
        return suite.measure(finished)
    except NoBefore as error:
        return Result(panels=[unmeasured(f"Suite '{suite.word()}'", error.message)])
    except (UserError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
        reason = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        warn(f"The suite '{suite.word()}' failed: {reason}")
        return Result(failed=reason)


def _explained(suite: Suite, task: Task, result: Result) -> dict[str, Any]:
    """A result as JSON values, with the suite's question and with what its figures are: by the suite, or by the task,
    whose metrics it gives.
    """
    defines = {figure.name: definition(figure.name, suite.defines, task.defines) for figure in result.figures}
    known = {name: text for name, text in defines.items() if text}
    return replace(result, asks=suite.asks, defines=known).as_json()


def definition(name: str, *known: Mapping[str, str]) -> str:
    """What the figure of this name is, by the first that knows it; in their names `*` stands for anything."""
    found = (text for names in known for pattern, text in names.items() if fnmatchcase(name, pattern))
    return next(found, "")


def chosen(recipe: Recipe, specs: Sequence[Spec]) -> list[Suite]:
    """Suites by their names, with the settings of the recipe where it names them, or by mappings with their own."""
    own = {suite.word(): suite for suite in recipe.suites}
    return [cast(Suite, own[one] if isinstance(one, str) and one in own else registry.build("evaluate", one))
            for one in specs]  # fmt: skip


def again(folder: Path, data: Path | None, specs: Sequence[Spec], predictions: Path | None = None) -> dict[str, Any]:
    """What the run measured at its end; with `data`, what these suites (`chosen`) find on that file, as the split
    `test`. Predictions go to the folder `predictions`, where one is given.

    Raises RunFolderError for a run that is not finished, DataError for a file that does not fit the task.
    """
    recipe = session.read_recipe(folder)
    if data is None:
        if not (folder / EVALUATION).is_file():
            raise RunFolderError(f"The run {folder} is not finished.", hint=f"Go on with: tunesmith resume {folder}")
        return cast(dict[str, Any], read_json(folder / EVALUATION))
    wanted = chosen(recipe, specs)
    loaded = session.load(folder)
    table = read(data, recipe.task.columns())
    prepare.check_truths(recipe.task, table.rows, str(table.path))
    recipe = replace(loaded.recipe, suites=wanted)
    at_hand = AtHand(folder, sources={"test": {"path": table.path}})
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) if predictions is None else predictions
        found = suites(recipe, loaded.backbone, {"test": table.rows}, place, at_hand)
    return {
        "title": f"{recipe.title}, measured on {data}",
        "metric": recipe.task.metric,
        "higher_is_better": recipe.task.higher_is_better,
        "suites": found,
    }


def _lines(path: Path, places: Sequence[int]) -> list[Row]:
    """Lines of a predictions file by their places, read in one pass."""
    wanted = set(places)
    with path.open(encoding="utf-8") as stream:
        found = {place: json.loads(text) for place, text in enumerate(stream) if place in wanted}
    return [found[place] for place in places]
