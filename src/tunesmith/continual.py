"""What later stages did to the tasks of earlier ones: after every stage all earlier test splits are answered again.

`continual.json` in the folder of the stages holds the matrix, row by row, so that a resumed sequence goes on with it;
`report.html` beside it shows the matrix and what follows from it (`evaluate/forgetting.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith import earlier
from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError
from tunesmith.core.files import read_json, write_json
from tunesmith.core.notes import note, silent
from tunesmith.core.panel import Heatmap, Panel, Table
from tunesmith.core.rows import each
from tunesmith.data.load import load as load_data
from tunesmith.evaluate import forgetting
from tunesmith.evaluate.predict import Predictor
from tunesmith.measure import EVALUATION
from tunesmith.report import page
from tunesmith.serve import session
from tunesmith.serve.folder import MODEL, read_finished
from tunesmith.train import faster

FILE = "continual.json"
SPLIT = "test"


def after(folder: Path, places: Sequence[Path]) -> None:
    """Measure every stage in `places` that has a test split with the model of the last of them, and write it down."""
    known: dict[str, Any] = read_json(folder / FILE) if (folder / FILE).is_file() else {"stages": {}}
    *earlier_names, last = (place.relative_to(folder).as_posix() for place in places)
    if last in known["stages"]:
        return
    again = {name: _again(name, place, places[-1]) for name, place in zip(earlier_names, places, strict=False)}
    row = {name: value for name, value in again.items() if value is not None}
    own = _figure(places[-1])
    if own is not None:
        row[last] = own
    recipe = read_finished(places[-1])
    known["stages"][last] = {
        "metric": recipe.task.metric,
        "higher_is_better": recipe.task.higher_is_better,
        "row": row,
    }
    write_json(folder / FILE, known)
    told = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
    note(f"After {last}: {told or 'no stage has a test split'}.")


def report(folder: Path) -> None:
    """Write the page of a sequence of stages."""
    page.write_panels(folder / page.NAME, "What the stages did to each other", panels(read_json(folder / FILE)))


def panels(known: dict[str, Any]) -> list[Panel]:
    """The matrix of the stages that have a test split, and figures of the sequence."""
    stages = {name: stage for name, stage in known["stages"].items() if name in stage["row"]}
    names = list(stages)
    if not names:
        return [Table("No stage has a test split", ["stage"], [[name] for name in known["stages"]])]
    values = [[stage["row"].get(name, math.nan) for name in names] for stage in stages.values()]
    labels = [f"{name} ({stages[name]['metric']})" for name in names]
    shown: list[Panel] = [
        Heatmap(
            "Test metric of every task after every stage",
            [f"after {name}" for name in names],
            labels,
            values,
            "task",
            "model",
            "A task's column begins with its own stage.",
        )
    ]
    figures = summary(stages)
    rows: list[list[str | int | float | None]] = [[name, value] for name, value in figures.items()]
    meaning = (
        "Average: of all tasks after the last stage. Backward transfer: how a task changed since its own stage, below "
        "0 if it was forgotten. Forgetting: how far a task is below its best. Each a mean over tasks, in the unit of "
        "their metrics, with the sign turned where less is better."
    )
    return [*shown, Table("The sequence", ["figure", "value"], rows, meaning)]


def summary(stages: dict[str, Any]) -> dict[str, float]:
    """Figures of a sequence: each stage's `row` has the metrics of the stages up to it."""
    names = list(stages)
    signs = {name: 1.0 if stages[name]["higher_is_better"] else -1.0 for name in names}
    matrix = [
        [signs[name] * stages[last]["row"].get(name, math.nan) for name in names[: place + 1]]
        for place, last in enumerate(names)
    ]
    return {
        "average": forgetting.average(matrix),
        "backward transfer": forgetting.backward(matrix),
        "forgetting": forgetting.forgetting(matrix),
    }


def _again(name: str, place: Path, last: Path) -> float | None:
    """The metric of an earlier stage's task on its test split, with its head over the last stage's body."""
    recipe = read_finished(place)
    with silent():
        rows = load_data(recipe.data, recipe.task.columns()).test
    if rows is None:
        return None
    loaded = session.load(last).backbone
    old = earlier.of_stage(name, recipe, place / MODEL)
    assert old.shell is not None
    try:
        model: Any = old.shell(anatomy.backbone(loaded.model))
    except ModelError as error:
        note(f"{name} is not measured again: {error.message}")
        return None
    predictor = Predictor(
        model.to(loaded.model.device), old.tokenizer, recipe.task, loaded.limit, recipe.train.precision
    )
    with faster.answering(model, recipe.speed):
        found = predictor.predict(rows)
    return recipe.task.metrics(recipe.task.truths(each(rows)), found.answers)[recipe.task.metric]


def _figure(place: Path) -> float | None:
    """What a stage measured of its own model on its test split, in its task's metric."""
    measured = read_json(place / EVALUATION)
    figures = measured["suites"].get("task", {}).get("figures", [])
    found = (
        figure["value"]
        for figure in figures
        if (figure["name"], figure["split"], figure["subject"]) == (measured["metric"], SPLIT, "model")
    )
    return next(found, None)
