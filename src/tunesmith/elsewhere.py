"""A model that was trained elsewhere, as suites see it: what its head means, by its configuration and its user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from tunesmith import account, earlier, measure, prepare
from tunesmith import recipe as recipes
from tunesmith.core import registry
from tunesmith.core.errors import DataError, RecipeError, nearest, raise_faults
from tunesmith.core.finished import Finished, NoBefore
from tunesmith.core.notes import note
from tunesmith.core.part import Task
from tunesmith.core.rows import each
from tunesmith.core.world import World
from tunesmith.data import sample
from tunesmith.data.read import Table, read
from tunesmith.measure import Spec
from tunesmith.models import foreign
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.serve.folder import MODEL, RECIPE
from tunesmith.train import faster, precision

UNKNOWN = "it is not known what the model was before its training (--before says it)"


@dataclass(frozen=True)
class Wanted:
    """What is to be measured, and of a model that is no run what only its user knows.

    data: a file of labelled rows. suites: names, or mappings with settings; `task` where there are none. task: its
    name, or a mapping with settings; found by the file's columns where not given. train: the rows that the model was
    trained on. before: what it was before. labels: names of the head's outputs, by those that it has. settings: values
    of the recipe, as `task.text=review`.
    """

    data: Path | None = None
    suites: Sequence[Spec] = ()
    task: Spec | None = None
    train: Path | None = None
    before: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()

    def told(self) -> list[str]:
        """The options that go with a model that is no run."""
        given = {"--task": self.task, "--train": self.train, "--before": self.before, "--label": self.labels,
                 "--set": self.settings}  # fmt: skip
        return [name for name, value in given.items() if value]


def found(name: str, wanted: Wanted, predictions: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What suites find, as `evaluation.json` has it, and where and of what. Predictions go to the folder `predictions`.

    Raises RecipeError, DataError, ModelError with all that the user must mend.
    """
    if wanted.data is None:
        raise RecipeError(f"{name} is no run: there are no rows to measure it on.", hint="Give them: --data FILE.")
    recipe = _recipe(name, wanted, wanted.data)
    task = recipe.task
    tables = {"test": read(wanted.data, task.columns())}
    if wanted.train is not None:
        tables["train"] = read(wanted.train, task.columns())
    backbone = foreign.load(name, task.auto_classes, task.reads)
    _told_of_run(name)
    _adopt(task, backbone, wanted, tables)
    backbone.model.to(recipe.train.device)  # type: ignore[arg-type]
    look(recipe, backbone, None, wanted.data)
    known = _finished(recipe, backbone, wanted, tables, predictions)
    evaluation = {
        "title": f"{task.word()} by {name}, measured on {wanted.data}",
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "suites": measure.results(recipe.suites, known),
    }
    sources = {key: {"path": str(one.path), "sha256": one.sha256, "rows": len(one.rows)} for key, one in tables.items()}
    told = {"model": name, "before": wanted.before, **account.versions(recipe), "columns": tables["test"].columns}
    return evaluation, {**told, "data": sources}


def _recipe(name: str, wanted: Wanted, data: Path) -> Recipe:
    """The recipe of a measurement: the task with the file's columns, the suites, where it is computed; its model is
    what the measured one was before its training.
    """
    values = {"model": wanted.before or name, "evaluate": list(wanted.suites) or ["task"], "task": _task(wanted, data)}
    if values["task"] is None:
        del values["task"]
    recipe = recipes.from_source(data, wanted.settings, values)
    device = precision.choose_device(recipe.train.device)
    kind = precision.choose_precision(recipe.train.precision, device)
    note(f"Device {device}, precision {kind}.")
    chosen = {"device": device, "precision": kind}
    return replace(recipe, train=recipe.train.model_copy(update=chosen))


def _task(wanted: Wanted, data: Path) -> dict[str, Any] | None:
    """The task as the user says it, with what the file's columns tell beside it; one that is not able: RecipeError."""
    if wanted.task is None:
        return None
    spec = {"name": wanted.task} if isinstance(wanted.task, str) else dict(wanted.task)
    name = str(spec.get("name"))
    kinds = {one: cast(type[Task], registry.load("tasks", one)) for one in registry.names("tasks")}
    able = [one for one, kind in kinds.items() if kind.adopt is not Task.adopt]
    if name not in able:
        raise RecipeError(
            f"The task '{name}' can't be measured on a model that was trained elsewhere. {nearest(name, able)}"
        )
    columns, rows = sample.peek(data, lenient=True)
    found = {key: value for key, value in (kinds[name].suits(columns, rows) or {}).items() if key not in spec}
    if found:
        note(f"Task: {name}, {', '.join(f'{key} = {value}' for key, value in found.items())}, by the file's columns.")
    return {**spec, **found}


def _told_of_run(name: str) -> None:
    folder = Path(name).expanduser()
    if folder.name == MODEL and (folder.parent / RECIPE).is_file():
        note(
            f"{folder} is the model of the run {folder.parent}: what only the run knows (a scale, a threshold, a "
            "temperature) is not used."
        )


def _adopt(task: Task, backbone: Backbone, wanted: Wanted, tables: Mapping[str, Table]) -> None:
    """Let the task learn what the head means; labels that it lacks raise DataError, all together."""
    if type(task).adopt is Task.adopt:
        raise RecipeError(
            f"The task '{task.word()}', found by the file's columns, can't be measured on a model that was trained "
            "elsewhere.", hint="Name another with --task."
        )  # fmt: skip
    config: Any = backbone.model.config
    if wanted.labels:
        foreign.rename(config, wanted.labels)
    task.adopt(config, each(tables.get("train", tables["test"]).rows))
    task.meet(backbone.model)
    if wanted.train is None:
        note(f"No training rows are given (--train): what baselines need of them is taken from {wanted.data} itself.")
    for table in tables.values():
        _check_labels(task, config, table)
        prepare.check_truths(task, table.rows, str(table.path))


def _check_labels(task: Task, config: Any, table: Table) -> None:
    """Refuse labels that the head has no output for."""
    known = task.head().get("id2label")
    roles = [one.role for one in task.columns() if one.target and (one.classes or one.storage == "texts")]
    if known is None or not roles:
        return
    names, faults, strange = set(known.values()), [], dict[str, None]()
    for row in each(table.rows):
        for role in roles:
            labels = [row[role]] if isinstance(row[role], str) else row[role] or []
            for label in dict.fromkeys(one for one in labels if one not in names):
                strange[label] = None
                faults.append(f"line {row['line']}: the head has no '{label}'")
    hint = "Mend these rows, or say what an output is called in the file: --label NAME_IN_THE_HEAD=NAME_IN_THE_FILE."
    if foreign.is_unnamed(config):
        first = next(name for name in known.values() if foreign.UNNAMED.fullmatch(name))
        hint = f"Say which is which, one by one, for example: --label {first}={next(iter(strange), '')}."
    told = ", ".join(known.values())
    raise_faults(DataError, f"{table.path} has labels that the model's head ({told}) lacks:", faults, hint=hint)


def _finished(
    recipe: Recipe, backbone: Backbone, wanted: Wanted, tables: Mapping[str, Table], predictions: Path
) -> Finished:
    """The model as suites see it, without what nobody said."""
    test, train = tables["test"], tables.get("train")
    at_hand = measure.AtHand(train=train.rows if train else None, sources={"test": {"path": str(test.path)}})
    known = measure.finished(recipe, backbone, {"test": test.rows}, predictions, at_hand)
    known = replace(known, folder=None)
    if wanted.before is None:

        def unknown(*_: Any) -> Any:
            raise NoBefore(UNKNOWN)

        return replace(known, before=unknown, untrained=unknown, headed=None, starts=False)
    foreign.check_kin(backbone.model, known.before().model, backbone.name, wanted.before)
    return known


def look(recipe: Recipe, backbone: Backbone, folder: Path | None, judged: Path | None) -> None:
    """Let suites refuse, before anything is measured, what they can't work with. judged: the file of the rows."""
    world = World((), backbone.limit, partial(earlier.of_file, recipe, backbone),
                  answering=partial(faster.beside, recipe.speed), folder=folder, judged=judged)  # fmt: skip
    for suite in recipe.suites:
        suite.check(backbone.model, world)
