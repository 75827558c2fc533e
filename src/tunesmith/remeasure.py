"""Measure a finished run with further suites, on its own splits, and write what they find beside what is there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith import earlier, elsewhere, joint_run, measure
from tunesmith.core.errors import DataError, RunFolderError
from tunesmith.core.files import read_json, remove_leftovers, write_json
from tunesmith.core.notes import listening, note, warn
from tunesmith.data.load import Splits
from tunesmith.data.load import load as load_data
from tunesmith.further import FromRun
from tunesmith.interrupt import Interrupted
from tunesmith.measure import EVALUATION, AtHand, Spec
from tunesmith.recipe import Recipe
from tunesmith.run import locked, show
from tunesmith.serve import session
from tunesmith.serve.folder import check_data
from tunesmith.train.log import Watcher


def suites(folder: Path, specs: Sequence[Spec], watch: Watcher | None = None) -> dict[str, Any]:
    """What these suites find on the run's held-out rows, with the settings of its recipe where it names them; the
    report and `evaluation.json` have it too. What was measured before stays where a suite fails now.

    Raises RunFolderError for a run that is not finished or whose data changed, DataError where its files are gone.
    """
    recipe = session.read_recipe(folder)
    chosen = measure.chosen(recipe, specs)
    if not (folder / EVALUATION).is_file():
        raise RunFolderError(f"The run {folder} is not finished.", hint=f"Go on with: tunesmith resume {folder}")
    with listening(), locked(folder), tempfile.TemporaryDirectory() as temporary:
        remove_leftovers(folder)
        loaded = session.load(folder)
        splits = _splits(folder, recipe)
        there = {name: rows for name in ("validation", "test") if (rows := getattr(splits, name)) is not None}
        at_hand = AtHand(folder, splits.train, _again(folder, recipe, splits, watch), splits.sources)
        asked = replace(loaded.recipe, suites=chosen)
        elsewhere.look(asked, loaded.backbone, folder, splits.judged)
        try:
            found = measure.suites(asked, loaded.backbone, there, Path(temporary) / "predictions", at_hand)
        except Interrupted:
            warn("What was trained is kept: the same command goes on from there.")
            raise
        known = read_json(folder / EVALUATION)
        kept = [name for name, result in found.items() if "failed" in result and name in known["suites"]]
        if kept:
            note(f"What was measured before stays: {', '.join(kept)}.")
        known["suites"] |= {name: result for name, result in found.items() if name not in kept}
        write_json(folder / EVALUATION, known)
        show(folder)
    return {**known, "suites": found}


def _splits(folder: Path, recipe: Recipe) -> Splits:
    try:
        splits = load_data(recipe.data, recipe.task.columns())
    except DataError as error:
        raise DataError(
            error.message, hint="Put the run's files back, or measure on another one with --data."
        ) from None
    check_data(folder, splits)
    return splits


def _again(folder: Path, recipe: Recipe, splits: Splits, watch: Watcher | None) -> FromRun | None:
    """What trains the recipe again; None where it can't be trained without what was there at the time."""
    if earlier.looked_back(recipe):
        note("The recipe looks back at earlier stages, which are not at hand: no suite trains it again.")
        return None
    if joint_run.there(folder.parent):
        note("The run was trained together with other tasks: no suite trains it again.")
        return None
    return FromRun(folder, recipe, splits, watch=watch)
