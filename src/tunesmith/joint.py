"""Several tasks that train together: one backbone, a head a task, one training.

    tasks:
      mood: {task: {name: classify, text: text, label: label}, data: reviews.csv}
      closeness: {task: regress, data: pairs.csv}

Everything else of the recipe holds for all. The run's folder has a folder a task, each a finished run of its own with
its model, figures and report, and besides the record of the training and a page of all tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from tunesmith.core.document import Document
from tunesmith.core.errors import RecipeError
from tunesmith.data import sources
from tunesmith.prepare import settle
from tunesmith.recipe import Recipe, merged, resolve

KEY, OWN = "tasks", ("task", "data")
OBJECTIVE = "multi_task"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
TAKEN = ("checkpoints", "model", "predictions", "merged", "tensorboard", "wandb")
"""Names of folders that a run has."""


@dataclass(frozen=True)
class Joint:
    """Recipes by the names of their tasks, alike but for task and data; parts are those of the first."""

    tasks: Mapping[str, Recipe]

    def __iter__(self) -> Iterator[Recipe]:
        """The recipes of the tasks."""
        return iter(self.tasks.values())

    @property
    def first(self) -> Recipe:
        """The recipe of the first task."""
        return next(iter(self))

    @property
    def title(self) -> str:
        """One line that names the run."""
        return f"{', '.join(self.tasks)} with {self.first.method.word()} on {self.first.model.called}"

    def values(self) -> dict[str, Any]:
        """The mapping from which `read` makes the same."""
        own = {name: {key: recipe.values()[key] for key in OWN} for name, recipe in self.tasks.items()}
        return {KEY: own, **{key: value for key, value in self.first.values().items() if key not in OWN}}

    def text(self) -> str:
        """The mapping as YAML."""
        return yaml.safe_dump(self.values(), sort_keys=False, allow_unicode=True)

    def placed(self) -> Joint:
        """The same, with files that can be found from any folder."""
        return Joint({name: replace(one, data=sources.absolute(one.data)) for name, one in self.tasks.items()})

    def settled(self) -> Joint:
        """The same with every `auto` filled in, once for all."""
        first = settle(self.first)
        found = {name: replace(recipe, model=first.model, train=first.train) for name, recipe in self.tasks.items()}
        return Joint(found)


def read(given: Document, where: str = "") -> Joint:
    """The tasks of a recipe with the key `tasks`. Raises RecipeError with the faults of all of them."""
    own = given.values[KEY]
    if not isinstance(own, Mapping) or len(own) < 2 or not all(isinstance(one, Mapping) for one in own.values()):
        raise RecipeError(
            f"tasks must be a mapping of two or more names, each with `task` and `data`; it is {own!r}.",
            hint="For example tasks: {mood: {task: classify, data: a.csv}, closeness: {task: regress, data: b.csv}}",
        )
    faults = [f"tasks: {told}" for told in _misnamed(list(own))]
    faults += [f"{key}: is given beside tasks, each of which has its own" for key in OWN if key in given.values]
    found: dict[str, Recipe] = {}
    for name, one in own.items():
        strange = [str(key) for key in one if key not in OWN]
        faults += [f"tasks.{name}.{key}: is unknown; a task has its own {' and '.join(OWN)}" for key in strange]
        try:
            found[str(name)] = _resolved(given, str(name), where)
        except RecipeError as error:
            faults.append(f"Task '{name}': {error.message}")
    if faults:
        raise RecipeError("\n".join(faults), hint="`tunesmith explain NAME` shows the settings of a part.")
    return Joint(_with_one_set_of_parts(found))


def _misnamed(names: list[Any]) -> list[str]:
    found = [f"{name!r} is no name for a folder: use letters, digits, _ and -" for name in names
             if not isinstance(name, str) or not NAME.fullmatch(name)]  # fmt: skip
    return found + [f"'{name}' is the name of a folder that every run has: use another" for name in names
                    if name in TAKEN]  # fmt: skip


def _resolved(given: Document, name: str, where: str) -> Recipe:
    shared = {key: value for key, value in given.values.items() if key not in (KEY, *OWN)}
    shared.setdefault("objective", OBJECTIVE)
    own = {key: value for key, value in given.values[KEY][name].items() if key in OWN}
    above = {path: line for path, line in given.lines.items() if path[0] != KEY}
    inside = {path[2:]: line for path, line in given.lines.items() if path[:2] == (KEY, name) and path[2:]}
    recipe = resolve(Document(merged(shared, own), above | inside), where)
    if recipe.objective.word() != OBJECTIVE:
        raise RecipeError(
            f"objective: several tasks train by '{OBJECTIVE}', not by '{recipe.objective.word()}'.",
            hint=f"Leave it out, or give the settings of {OBJECTIVE}.",
        )
    if recipe.model.scratch:
        raise RecipeError(
            "model: several tasks share a backbone that was trained before, and this one is made from nothing.",
            hint="Train it on raw text first, in a stage before.",
        )
    return recipe


def _with_one_set_of_parts(found: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """What a part learns it learns once: the recipes hold the same ones."""
    first = next(iter(found.values()))
    return {
        name: replace(
            recipe, method=first.method, objective=first.objective, regularizers=first.regularizers,
            schedules=first.schedules,
        )
        for name, recipe in found.items()
    }  # fmt: skip
