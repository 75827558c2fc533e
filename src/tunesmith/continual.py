"""What later stages did to the tasks of earlier ones: after every stage all earlier test splits are answered again.

`continual.json` in the folder of the stages holds, of every stage,

    row          the metric of its task and of all earlier ones, on their test splits, by the names of their stages
    before       that of its task with the model that the stage started from, under the head it started with
    untrained    the same with the model that the first stage started from
    alone        the same after a training of the task by itself, where the recipe asks for it
    unmeasured   what of all this is not there, and why

and figures of the whole (`summary`). It grows stage by stage, so that a resumed sequence goes on with it; `report.html`
beside it shows it (`sequence.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith import earlier, prepare, sequence
from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.core.files import read_json, write_json
from tunesmith.core.notes import note, silent
from tunesmith.core.rows import Rows, each
from tunesmith.data.load import load as load_data
from tunesmith.evaluate.predict import Predictor
from tunesmith.measure import EVALUATION
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.report import page
from tunesmith.report.wording import number
from tunesmith.serve import session
from tunesmith.serve.folder import ENVIRONMENT, MODEL, read_finished, read_recipe
from tunesmith.train import faster

FILE = "continual.json"
SPLIT = "test"
Known = dict[str, Any]


def read(folder: Path) -> Known:
    """What is known of the stages in a folder, in their order."""
    found: Known = read_json(folder / FILE) if (folder / FILE).is_file() else {"stages": {}}
    return found


def after(folder: Path, places: Sequence[Path]) -> None:
    """Measure every stage in `places` that has a test split with the model of the last of them, and write it down."""
    known, last = read(folder), places[-1]
    if last.name in known["stages"]:
        return
    recipe = read_recipe(last)
    stage: Known = {
        "metric": recipe.task.metric,
        "higher_is_better": recipe.task.higher_is_better,
        "row": {},
        "unmeasured": {},
    }
    for place in places[:-1]:
        if place.name in known["stages"][place.name]["row"]:
            _take(stage, stage["row"], place.name, partial(_again, place, last))
    own = _figure(last)
    if own is None:
        stage["unmeasured"][last.name] = _why_not(last, recipe)
    else:
        stage["row"][last.name] = own
        before = partial(_figure, last, recipe.task.untrained)
        _take(stage, stage, "before", before)
        _take(stage, stage, "untrained", before if len(places) == 1 else partial(_untrained, last, places[0]))
    known["stages"][last.name] = stage
    told = ", ".join(f"{name} {number(value)}" for name, value in stage["row"].items())
    note(f"After {last.name}: {told or 'no stage has a test split'}.")
    for name, why in stage["unmeasured"].items():
        note(f"Not measured after {last.name}: {name}, as {why}")
    _write(folder, known)


def compared(folder: Path, name: str) -> bool:
    """Whether the task of a stage was measured, and what it came to can be compared."""
    return name in read(folder)["stages"][name]["row"]


def beside(folder: Path, name: str, alone: Path, without: Sequence[str]) -> None:
    """Write down what a stage's task comes to where it was trained alone, and which regularizers were left out."""
    known = read(folder)
    stage = known["stages"][name]
    _take(stage, stage, sequence.ALONE, partial(_figure, alone))
    stage["alone_without"] = list(without)
    _write(folder, known)


def _write(folder: Path, known: Known) -> None:
    known["summary"] = sequence.summary(known["stages"])
    write_json(folder / FILE, known)
    page.write_panels(folder / page.NAME, "What the stages did to each other", sequence.panels(known["stages"]))


def _take(stage: Known, into: Known, name: str, find: Callable[[], float | None]) -> None:
    """Put what `find` gives into a mapping under a name; or why there is nothing into the stage's `unmeasured`."""
    try:
        value = find()
    except (ModelError, RecipeError) as error:
        value, why = None, error.message
    else:
        why = f"the {stage['metric']} is not defined for these answers."
    if value is not None and math.isfinite(value):
        into[name] = value
    else:
        stage["unmeasured"][name] = why


def _again(place: Path, last: Path) -> float:
    """The metric of an earlier stage's task on its test split, with its head over the last stage's body."""
    recipe = read_finished(place)
    loaded = session.load(last).backbone
    old = earlier.of_stage(place.name, recipe, place / MODEL)
    assert old.shell is not None
    model: Any = old.shell(anatomy.backbone(loaded.model))
    return _metric(recipe, Backbone(model.to(loaded.model.device), old.tokenizer, loaded.limit, loaded.identity))


def _untrained(place: Path, first: Path) -> float:
    """The metric of a stage's task on its test split, with the model that the first stage started from under the head
    that this stage would have started with there: the seed's. Random weights follow the stage's own seed, too.
    """
    recipe = earlier.beginning(read_recipe(place), read_recipe(first).model)
    with silent():  # that a head is fresh was said
        backbone = prepare.load_backbone(recipe)
    backbone.model.to(recipe.train.device)  # type: ignore[arg-type]
    return _metric(recipe, backbone)


def _metric(recipe: Recipe, backbone: Backbone) -> float:
    predictor = Predictor(backbone.model, backbone.tokenizer, recipe.task, backbone.limit, recipe.train.precision)
    rows = _rows(recipe)
    with faster.answering(backbone.model, recipe.speed):
        found = predictor.predict(rows)
    return recipe.task.metrics(recipe.task.truths(each(rows)), found.answers)[recipe.task.metric]


def _rows(recipe: Recipe) -> Rows:
    with silent():  # what there is to say of these rows was said when the stage ran
        rows = load_data(recipe.data, recipe.task.columns()).test
    assert rows is not None
    return rows


def _figure(place: Path, subject: str = "model") -> float | None:
    """What a run measured of its own model, or of a baseline, on its test split, in its task's metric."""
    measured = read_json(place / EVALUATION)
    figures = measured["suites"].get("task", {}).get("figures", [])
    found = (
        figure["value"]
        for figure in figures
        if (figure["name"], figure["split"], figure["subject"]) == (measured["metric"], SPLIT, subject)
    )
    return next(found, None)


def _why_not(place: Path, recipe: Recipe) -> str:
    if SPLIT not in read_json(place / ENVIRONMENT)["data"]:
        return "it has no test split."
    if "task" not in [suite.word() for suite in recipe.suites]:
        return "its recipe does not measure it: `evaluate` leaves out `task`."
    return f"the {recipe.task.metric} is not defined for its answers."
