"""Measure a finished model: the suites of its recipe when a run ends, or any suite on any labelled file later."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tunesmith import prepare
from tunesmith.core import registry
from tunesmith.core.column import Row
from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import read_json
from tunesmith.core.finished import Finished, Predictions
from tunesmith.core.notes import note
from tunesmith.core.part import Suite
from tunesmith.core.rows import Rows
from tunesmith.data.read import read
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.serve import session
from tunesmith.train import faster

EVALUATION = "evaluation.json"


def suites(recipe: Recipe, backbone: Backbone, splits: Mapping[str, Rows], predictions: Path) -> dict[str, Any]:
    """What every suite of the recipe finds on the held-out splits, as JSON values.

    Predictions go to `predictions`, a file a split. The untrained model, a baseline, is the recipe's backbone loaded
    anew.
    """
    predictor = _predictor(backbone, recipe)
    with faster.answering(backbone.model, recipe.speed):
        found = {name: predictor.predict(rows, out=predictions / f"{name}.jsonl") for name, rows in splits.items()}
    for name, predictions_of in found.items():
        if predictions_of.cut:
            note(f"{predictions_of.cut:,} of {len(splits[name]):,} {name} rows are longer than the limit and were cut.")
    fresh = _predictor(prepare.load_backbone(recipe), recipe)
    fresh.model.to(backbone.model.device)  # type: ignore[arg-type]

    def untrained(name: str) -> Predictions:
        with faster.answering(fresh.model, recipe.speed):
            return fresh.predict(splits[name])

    finished = Finished(
        task=recipe.task,
        splits=splits,
        predict=found.__getitem__,
        untrained=untrained,
        lines=lambda name, places: _lines(predictions / f"{name}.jsonl", places),
        seed=recipe.train.seed,
    )
    return {suite.word(): suite.measure(finished).as_json() for suite in recipe.suites}


def again(folder: Path, data: Path | None, names: Sequence[str]) -> dict[str, Any]:
    """What the run measured at its end; with `data`, what the suites of these names find on that file, as the split
    `test`.

    Raises RunFolderError for a run that is not finished, DataError for a file that does not fit the task.
    """
    recipe = session.read_recipe(folder)
    if data is None:
        if not (folder / EVALUATION).is_file():
            raise RunFolderError(f"The run {folder} is not finished.", hint=f"Go on with: tunesmith resume {folder}")
        return cast(dict[str, Any], read_json(folder / EVALUATION))
    chosen = [cast(Suite, registry.build("evaluate", name)) for name in names]
    loaded = session.load(folder)
    table = read(data, recipe.task.columns())
    prepare.check_truths(recipe.task, table.rows, str(table.path))
    recipe = replace(loaded.recipe, suites=chosen)
    with tempfile.TemporaryDirectory() as temporary:
        found = suites(recipe, loaded.backbone, {"test": table.rows}, Path(temporary))
    return {
        "title": f"{recipe.title}, measured on {data}",
        "metric": recipe.task.metric,
        "higher_is_better": recipe.task.higher_is_better,
        "suites": found,
    }


def _predictor(backbone: Backbone, recipe: Recipe) -> Predictor:
    return Predictor(backbone.model, backbone.tokenizer, recipe.task, backbone.limit, recipe.train.precision)


def _lines(path: Path, places: Sequence[int]) -> list[Row]:
    """Lines of a predictions file by their places, read in one pass."""
    wanted = set(places)
    with path.open(encoding="utf-8") as stream:
        found = {place: json.loads(text) for place, text in enumerate(stream) if place in wanted}
    return [found[place] for place in places]
