"""A run's folder as those who load it see it: its recipe, its task, its model, the rows to compare on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tunesmith.core import difference, document, registry
from tunesmith.core.column import Row
from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import check_writable, read_json, reading
from tunesmith.core.part import Method
from tunesmith.data.load import Splits
from tunesmith.models import stack
from tunesmith.models.load import Backbone
from tunesmith.recipe import DEFAULTS, Recipe, resolve

MODEL, RECIPE, TASK, PROBE = "model", "recipe.yaml", "task.json", "probe.json"
ENVIRONMENT = "environment.json"
TOKENIZER = "tokenizer.json"
"""The tokenizer that was trained for a model from scratch."""
HINT = "Give the folder that `tunesmith train` named."


def read_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run folder, its task as it had learned. No run raises RunFolderError."""
    path = folder / RECIPE
    if not path.is_file():
        told = "does not exist" if not folder.exists() else "is not a run: it has no recipe.yaml"
        stages = sorted(str(inner.parent) for inner in folder.glob(f"*/{RECIPE}"))
        hint = f"It holds stages: give one of {', '.join(stages)}." if stages else HINT
        raise RunFolderError(f"The folder {folder} {told}.", hint=hint)
    read = document.read(path)
    if "tasks" in read.values:
        inside = ", ".join(str(folder / str(name)) for name in read.values["tasks"])
        raise RunFolderError(f"The run {folder} holds several tasks.", hint=f"Give one of {inside}.")
    recipe = resolve(read, str(path))
    state = read_json(folder / TASK)
    with reading(folder / TASK):
        recipe.task.restore(state)
    if recipe.model.vocabulary is None:
        return recipe
    return replace(recipe, model=recipe.model.with_tokenizer(json.dumps(read_json(folder / TOKENIZER))))


def read_finished(folder: Path) -> Recipe:
    """The recipe of a finished run; another one raises RunFolderError with the command that goes on.

    In a model that is kept as its difference nothing is inserted: its method is then the one that inserts nothing. The
    earlier deltas that a run stands on are its own copies of them.
    """
    recipe = read_recipe(folder)
    if not (folder / MODEL).is_dir():
        raise RunFolderError(
            f"The run {folder} is not finished: it has no model yet.", hint=f"Go on with: tunesmith resume {folder}"
        )
    if difference.there(folder / MODEL):
        plain = cast(Method, registry.build("methods", DEFAULTS["method"]))
        return replace(recipe, method=plain, model=recipe.model.on([]))
    return replace(recipe, model=stack.kept(recipe.model, folder / MODEL))


def check_data(folder: Path, splits: Splits) -> None:
    """Refuse data that changed since the run began: RunFolderError."""
    known = read_json(folder / ENVIRONMENT)
    with reading(folder / ENVIRONMENT):
        before = {name: source["sha256"] for name, source in known["data"].items()}
    changed = {str(source["path"]) for name, source in splits.sources.items() if source["sha256"] != before.get(name)}
    if changed:
        raise RunFolderError(
            f"The data changed since the run {folder} began: {', '.join(sorted(changed))}.",
            hint="Put the file back as it was, or start a new run.",
        )


def probe(folder: Path, recipe: Recipe, backbone: Backbone) -> list[Any]:
    """The batches with which the models of a run are compared."""
    return probe_batches(recipe, backbone, read_json(folder / PROBE))


def probe_batches(recipe: Recipe, backbone: Backbone, rows: list[Row]) -> list[Any]:
    """One batch of the given rows, as the model sees them."""
    examples = recipe.task.encode(rows, backbone.tokenizer, backbone.limit)
    return [recipe.task.collate(examples, backbone.tokenizer)]


def check_free(out: Path) -> None:
    """Refuse a folder to write to that can't be made or holds something. Raises RunFolderError."""
    check_writable(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out} exists and is not an empty folder.", hint="Give another one with --out.")
