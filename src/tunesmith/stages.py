"""Several stages in one recipe: each is a run of its own that starts from the model the one before it made.

    stages:
      - {task: fill, data: corpus.txt}     # each stage stands above what the recipe says for all
      - {}

After a stage that made a delta the next one starts from the merged model, or, with `model: {earlier: stack}`, puts its
own delta on top of the earlier ones (`models/stack.py`).

A recipe without stages is one run, in the folder itself; with stages the folder holds a run a stage, `1-fill`,
`2-classify`, and `stages.yaml`, from which `resume` goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
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
from tunesmith.core.part import Method
from tunesmith.core.world import Old
from tunesmith.data import sources
from tunesmith.models import stack
from tunesmith.models.settings import ModelSettings
from tunesmith.recipe import Recipe, document_of, merged, resolve
from tunesmith.run import Run
from tunesmith.serve import session
from tunesmith.serve.folder import MODEL, RECIPE, read_finished
from tunesmith.train.log import Watcher

STAGES, MERGED = "stages.yaml", "merged"
KEPT = {"dtype", "quantize", "earlier"}
STACK = "stack"


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
    before: list[Old] = []
    places: list[Path] = []
    for number, stage in enumerate(stages, 1):
        place = folder / f"{number}-{stage.task.word()}"
        if places:
            stage = replace(stage, model=_model(stage.model, places[-1]))
        elif stage.model.earlier == STACK:
            stage = replace(stage, model=stage.model.on([]))
        note(f"Stage {number} of {len(stages)}: {stage.title}, in {place}.")
        begun = (place / RECIPE).is_file()
        done = runs.resume(place, watch, before) if begun else runs.start(stage, place, watch, before)
        if not done.finished:
            return Run(folder, False)
        before.append(earlier.of_stage(place.name, read_finished(place), place / MODEL))
        places.append(place)
        continual.after(folder, places)
    continual.report(folder)
    return done


def _model(settings: ModelSettings, before: Path) -> ModelSettings:
    """What a stage starts from after the one in the folder `before`: its plain model, or its backbone and deltas."""
    earlier = read_finished(before)
    if settings.earlier == STACK:
        return earlier.model.on([*earlier.model.deltas, (before / MODEL).resolve()])
    plain = before / MODEL
    if earlier.method.delta:
        plain = before / MERGED
        if not plain.is_dir():
            session.load(before).merge(plain)
    return ModelSettings(name=str(plain.resolve()), dtype=settings.dtype, quantize=settings.quantize)


def _resolved(read: Document, where: str) -> list[Recipe]:
    given = read.values.get("stages")
    if given is None:
        alone = {key: value for key, value in read.values.items() if key != "stages"}
        recipe = resolve(Document(alone, read.lines), where)
        if recipe.model.earlier == STACK:
            raise RecipeError(
                "model.earlier: stack is said, but there is no earlier stage.",
                hint="Name the folders of finished runs on this model, or leave it out.",
            )
        return [recipe]
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
    faults = faults or _misfits(found)
    if faults:
        raise RecipeError("\n".join(faults), hint="`tunesmith explain NAME` shows the settings of a part.")
    return found


def _misfits(stages: Sequence[Recipe]) -> list[str]:
    """What does not go together of a stage and those before it: a stack that can't be, a merge that can't be."""
    faults: list[str] = []
    below: list[Method] = []
    for number, (before, stage) in enumerate(pairwise(stages), 2):
        below.append(before.method)
        if stage.model.earlier == STACK:
            if why := stack.refusal(below, stage.method):
                faults.append(f"Stage {number}: model.earlier: {why}.")
            if (stage.model.dtype, stage.model.quantize) != (before.model.dtype, before.model.quantize):
                faults.append(f"Stage {number}: model: a stack stays on one backbone, in one dtype and one quantize.")
            continue
        fixed = next((one for one in below if one.cannot_merge), None)
        if fixed is not None:
            faults.append(
                f"Stage {number - 1}: method: the next stage can't start from a delta of '{fixed.word()}', which can't "
                f"be merged: {fixed.cannot_merge}. Use another method, or say model: {{earlier: stack}} there."
            )
        below = []
    return faults


def _stage(read: Document, number: int, where: str) -> Recipe:
    values = {key: value for key, value in read.values.items() if key != "stages"}
    own = dict(read.values["stages"][number] or {})
    _check_model(own.get("model"), number)
    above = {path: line for path, line in read.lines.items() if path[0] != "stages"}
    inside = {path[2:]: line for path, line in read.lines.items() if path[:2] == ("stages", number) and path[2:]}
    return resolve(Document(merged(values, own), above | inside), where)


def _check_model(model: Any, number: int) -> None:
    """Refuse what a stage can't say of the model that it starts from."""
    if number and model is not None and not (isinstance(model, Mapping) and set(model) <= KEPT):
        raise RecipeError(
            f"model: {model!r} is given, but a stage starts from the model that the one before it made.",
            hint="Leave it out; model.dtype, model.quantize and model.earlier alone may be given.",
        )
    earlier = model.get("earlier") if isinstance(model, Mapping) else None
    if number and isinstance(earlier, list):
        raise RecipeError(
            "model.earlier names runs, but what lies below a later stage is what the stages before it made.",
            hint="Say stack or merge.",
        )
    if not number and earlier == STACK:
        raise RecipeError(
            "model.earlier: stack is said, but no stage is before the first.", hint="Say it in a later one."
        )
