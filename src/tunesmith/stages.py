"""Several stages in one recipe: each is a run of its own that starts from the model the one before it made.

    stages:
      - {task: fill, data: corpus.txt}     # each stage stands above what the recipe says for all
      - {}

A recipe without stages is one run, in the folder itself; with stages the folder holds a run a stage, `1-fill`,
`2-classify`, and `stages.yaml`, from which `resume` goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tunesmith import continual, earlier
from tunesmith import run as runs
from tunesmith.core import document
from tunesmith.core.document import Document
from tunesmith.core.errors import RecipeError
from tunesmith.core.files import write_text
from tunesmith.core.notes import note
from tunesmith.core.world import Old
from tunesmith.data import sources
from tunesmith.models.settings import ModelSettings
from tunesmith.recipe import Recipe, document_of, merged, resolve
from tunesmith.run import Run
from tunesmith.serve import session
from tunesmith.serve.folder import MODEL, RECIPE, read_finished
from tunesmith.train.log import Watcher

STAGES, MERGED = "stages.yaml", "merged"
KEPT = {"dtype", "quantize"}


def read(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> list[Recipe]:
    """The stages of a recipe (a YAML file, a bare data file or a mapping), or the recipe alone where it has none.

    Raises RecipeError with the faults of all stages.
    """
    if isinstance(source, Mapping):
        return _resolved(Document(merged(source, values or {}), {}), "")
    return _resolved(*document_of(source, overrides, values))


def start(stages: Sequence[Recipe], out: str | Path | None = None, watch: Watcher | None = None) -> Run:
    """Run the stages one after another in a new folder; returns the last one's run, or an unfinished one."""
    if len(stages) == 1:
        return runs.start(stages[0], out, watch)
    folder = runs.new_folder(stages[-1], out)
    stages = [replace(stage, data=sources.absolute(stage.data)) for stage in stages]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / STAGES, yaml.safe_dump({"stages": [stage.values() for stage in stages]}, sort_keys=False))
    return _go_on(folder, stages, watch)


def resume(folder: str | Path, watch: Watcher | None = None) -> Run:
    """Go on with a run, or with the stages of a folder, where they stopped."""
    folder = Path(folder)
    if not (folder / STAGES).is_file():
        return runs.resume(folder, watch)
    given = document.read(folder / STAGES).values["stages"]
    return _go_on(folder, [resolve(Document(stage, {}), str(folder / STAGES)) for stage in given], watch)


def _go_on(folder: Path, stages: Sequence[Recipe], watch: Watcher | None) -> Run:
    done = Run(folder, False)
    model: Path | None = None
    before: list[Old] = []
    places: list[Path] = []
    for number, stage in enumerate(stages, 1):
        # Parts of its own, which go when the stage ends, with the model that they hold. Modules stand in cycles, which
        # Python looks for when there are many objects, not when they are large.
        stage = resolve(Document(stage.values(), {}), str(folder / STAGES))
        gc.collect()
        place = folder / f"{number}-{stage.task.word()}"
        if model is not None:
            settings = {key: value for key, value in stage.model.model_dump().items() if key in KEPT}
            stage = replace(stage, model=ModelSettings(name=str(model.resolve()), **settings))
        note(f"Stage {number} of {len(stages)}: {stage.title}, in {place}.")
        begun = (place / RECIPE).is_file()
        done = runs.resume(place, watch, before) if begun else runs.start(stage, place, watch, before)
        if not done.finished:
            return Run(folder, False)
        before.append(earlier.of_stage(place.name, read_finished(place), place / MODEL))
        places.append(place)
        continual.after(folder, places)
        model = place / MODEL if number == len(stages) else _plain(place, stage)
    continual.report(folder)
    return done


def _plain(place: Path, stage: Recipe) -> Path:
    """The model that a stage made, as the next one can start from it: without a delta."""
    if not stage.method.delta:
        return place / MODEL
    if not (place / MERGED).is_dir():
        session.load(place).merge(place / MERGED)
    return place / MERGED


def _resolved(read: Document, where: str) -> list[Recipe]:
    given = read.values.get("stages")
    if given is None:
        alone = {key: value for key, value in read.values.items() if key != "stages"}
        return [resolve(Document(alone, read.lines), where)]
    if not isinstance(given, list) or not given or not all(isinstance(one, Mapping | None) for one in given):
        raise RecipeError(
            f"stages must be a list of mappings, each with what is other in that stage; it is {given!r}.",
            hint="For example stages: [{task: fill, data: corpus.txt}, {}]",
        )
    faults, found = [], []
    for number in range(len(given)):
        try:
            found.append(_stage(read, number, where))
        except RecipeError as error:
            faults.append(f"Stage {number + 1}: {error.message}")
    if faults:
        raise RecipeError("\n".join(faults), hint="`tunesmith explain NAME` shows the settings of a part.")
    return found


def _stage(read: Document, number: int, where: str) -> Recipe:
    values = {key: value for key, value in read.values.items() if key != "stages"}
    own = dict(read.values["stages"][number] or {})
    model = own.get("model")
    if number and model is not None and not (isinstance(model, Mapping) and set(model) <= KEPT):
        raise RecipeError(
            f"model: {model!r} is given, but a stage starts from the model that the one before it made.",
            hint="Leave it out; model.dtype and model.quantize alone may be given.",
        )
    above = {path: line for path, line in read.lines.items() if path[0] != "stages"}
    inside = {path[2:]: line for path, line in read.lines.items() if path[:2] == ("stages", number) and path[2:]}
    stage = resolve(Document(merged(values, own), above | inside), where)
    last = number == len(read.values["stages"]) - 1
    if stage.method.cannot_merge and not last:
        raise RecipeError(
            f"method: the next stage can't start from a delta of '{stage.method.word()}', which can't be merged: "
            f"{stage.method.cannot_merge}.",
            hint="Use another method in all stages but the last, such as full or lora.",
        )
    return stage
