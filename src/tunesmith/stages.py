"""Several stages in one recipe: each is a run of its own that starts from the model the one before it made.

    stages:
      - {task: fill, data: corpus.txt}     # each stage stands above what the recipe says for all
      - {}
    alone: true                            # each but the first is also trained without those before it, to compare

After a stage that made a delta the next one starts from the merged model, or, with `model: {earlier: stack}`, puts its
own delta on top of the earlier ones (`models/stack.py`).

A recipe without stages is one run, in the folder itself; with stages the folder holds a run a stage, `1-fill`,
`2-classify`, and `stages.yaml`, from which `resume` goes on. Trained alone, one is: `2-classify-alone`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tunesmith import beforehand, continual, earlier, joint, joint_run
from tunesmith import run as runs
from tunesmith.core import document
from tunesmith.core.document import Document
from tunesmith.core.errors import RecipeError, RunFolderError, TunesmithError, UserError
from tunesmith.core.files import write_text
from tunesmith.core.notes import note
from tunesmith.core.world import Old
from tunesmith.data import sources
from tunesmith.joint import Joint
from tunesmith.models.settings import ModelSettings
from tunesmith.recipe import Recipe, document_of, merged, resolve
from tunesmith.report.wording import listing
from tunesmith.run import Run
from tunesmith.serve import session
from tunesmith.serve.folder import MODEL, RECIPE, read_finished, read_recipe
from tunesmith.train.log import Watcher

STAGES, MERGED = "stages.yaml", "merged"
ALONE = "alone"


@dataclass(frozen=True)
class Stages:
    """The stages of a recipe, and whether those after the first are also trained alone, from the first model."""

    recipes: Sequence[Recipe]
    alone: bool = False

    def __iter__(self) -> Iterator[Recipe]:
        """The stages."""
        return iter(self.recipes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.recipes)

    def text(self) -> str:
        """What `stages.yaml` holds."""
        values = {ALONE: self.alone, "stages": [stage.values() for stage in self]}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def read(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> Stages | Joint:
    """The stages of a recipe (a YAML file, a bare data file or a mapping), or the recipe alone where it has none; or
    the tasks that it trains together.

    Raises RecipeError with the faults of all stages.
    """
    if isinstance(source, Mapping):
        return _resolved(Document(merged(source, values or {}), {}), "")
    return _resolved(*document_of(source, overrides, values))


def start(stages: Stages | Joint, out: str | Path | None = None, watch: Watcher | None = None) -> Run:
    """Run the stages one after another in a new folder; returns the last one's run, or an unfinished one. What can be
    seen to be wrong with any of them is raised before anything is written.
    """
    if isinstance(stages, Joint):
        return joint_run.start(stages, out, watch)
    first, *later = stages
    if not later:
        return runs.start(first, out, watch)
    if out is not None and (Path(out) / STAGES).is_file():
        raise RunFolderError(
            f"The folder {out} holds stages already.",
            hint=f"Go on with them: tunesmith resume {out}. Or give another folder with --out.",
        )
    folder = runs.new_folder(later[-1], out)
    _look_ahead(folder, stages)
    stages = replace(stages, recipes=[replace(stage, data=sources.absolute(stage.data)) for stage in stages])
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / STAGES, stages.text())
    try:
        return _go_on(folder, stages, watch)
    finally:
        if [item.name for item in folder.iterdir()] == [STAGES]:  # nothing has begun: the name is free again
            (folder / STAGES).unlink()
            folder.rmdir()


def resume(folder: str | Path, watch: Watcher | None = None) -> Run:
    """Go on with a run, or with the stages of a folder, where they stopped."""
    folder = Path(folder)
    if joint_run.there(folder):
        return joint_run.resume(folder, watch)
    if not (folder / STAGES).is_file():
        return runs.resume(folder, watch)
    given, where = document.read(folder / STAGES), str(folder / STAGES)
    stages = _built(given, lambda number: resolve(_inside(given, number, given.values["stages"][number]), where))
    _look_ahead(folder, stages)
    return _go_on(folder, stages, watch)


def _look_ahead(folder: Path, stages: Stages) -> None:
    """Refuse what can be seen to be wrong with any stage that has not begun."""
    first = stages.recipes[0].model
    waiting: dict[str, Recipe] = {}
    alone: dict[str, Recipe] = {}
    for number, (stage, place) in enumerate(zip(stages, _places(folder, stages), strict=True), 1):
        if not (place / RECIPE).is_file():
            waiting[f"Stage {number}"] = stage if number == 1 else earlier.following(stage, "the model before it")
        if stages.alone and number > 1:
            alone[f"Stage {number} alone"] = earlier.beginning(stage, first)
    beforehand.check(waiting, alone)


def _go_on(folder: Path, stages: Stages, watch: Watcher | None) -> Run:
    done = Run(folder, False)
    places = _places(folder, stages)
    before: list[Old] = []
    for number, (stage, place) in enumerate(zip(stages, places, strict=True), 1):
        title = f"Stage {number} of {len(stages)}"
        # Parts of its own, which go when the stage ends, with the model that they hold. Modules stand in cycles, which
        # Python looks for when there are many objects, not when they are large.
        stage = resolve(Document(stage.values(), {}), str(folder / STAGES))
        gc.collect()
        with _told(f"{title} ({place.name})", place, places[: number - 1]):
            if number > 1:
                stage = replace(stage, model=_model(stage.model, places[number - 2]))
            elif stage.model.earlier == beforehand.STACK:
                stage = replace(stage, model=stage.model.on([]))
            note(f"{title}: {stage.title}, in {place}.")
            done = _run(stage, place, watch, before)
            if not done.finished:
                return Run(folder, False)
            before.append(earlier.of_stage(place.name, read_finished(place), place / MODEL))
            continual.after(folder, places[:number])
    if stages.alone and not _each_alone(folder, stages, watch):
        return Run(folder, False)
    return replace(done, sequence=folder)


def _each_alone(folder: Path, stages: Stages, watch: Watcher | None) -> bool:
    """Train every stage but the first without those before it, from the first one's model; False when interrupted."""
    places = _places(folder, stages)
    first = read_recipe(places[0]).model
    for stage, place in list(zip(stages, places, strict=True))[1:]:
        other = place.with_name(f"{place.name}-{ALONE}")
        if not continual.compared(folder, place.name):
            note(f"{other.name} is not trained: {place.name} has no figure to compare it with.")
            continue
        note(f"{place.name} alone, from the model before all stages, in {other}.")
        without = earlier.looked_back(stage)
        if without:
            note(f"{other.name} has no earlier stage to look back at: {listing(without)} left out.")
        # Parts keep what they learned while they ran: these are others.
        fresh = earlier.beginning(resolve(Document(stage.values(), {})), first)
        with _told(other.name, other, places):
            if not _run(fresh, other, watch, ()).finished:
                return False
            continual.beside(folder, place.name, other, without)
    return True


def _run(stage: Recipe, place: Path, watch: Watcher | None, before: Sequence[Old]) -> Run:
    begun = (place / RECIPE).is_file()
    return runs.resume(place, watch, before) if begun else runs.start(stage, place, watch, before)


@contextmanager
def _told(title: str, place: Path, finished: Sequence[Path]) -> Iterator[None]:
    """What goes wrong inside says in which stage, which ones are finished, and how to go on."""
    try:
        yield
    except TunesmithError as error:
        error.message = f"{title}: {error.message}"
        begun = (place / RECIPE).is_file()
        if begun or finished:
            folder = place.parent
            kept = f"Finished, each with its model: {listing([str(one) for one in finished])}." if finished else ""
            again = f"For other settings in this stage alone, change {folder / STAGES} and remove {place} first."
            on = f"Go on with: tunesmith resume {folder}"
            error.hint = "\n".join(filter(None, [error.hint, kept, again if begun else "", on]))
        raise


def _places(folder: Path, stages: Stages) -> list[Path]:
    return [folder / f"{number}-{stage.task.word()}" for number, stage in enumerate(stages, 1)]


def _model(settings: ModelSettings, before: Path) -> ModelSettings:
    """What a stage starts from after the one in the folder `before`: its plain model, or its backbone and deltas."""
    made = read_finished(before)
    if settings.earlier == beforehand.STACK:
        below = made.model.on([*made.model.deltas, (before / MODEL).resolve()])
        return below.model_copy(update={"start": settings.start})
    plain = before / MODEL
    if made.method.delta:
        plain = before / MERGED
        if not plain.is_dir():
            session.load(before).merge(plain)
    kept = {key: getattr(settings, key) for key in earlier.KEPT}
    return ModelSettings(name=str(plain.resolve()), **kept)


def _resolved(read: Document, where: str) -> Stages | Joint:
    if read.values.get("stages") is None and read.values.get(ALONE) is None:
        values = {key: value for key, value in read.values.items() if key not in (ALONE, "stages")}
        alone = Document(values, read.lines)
        if joint.KEY in values:
            return joint.read(alone, where)
        recipe = resolve(alone, where)
        if recipe.model.earlier == beforehand.STACK:
            raise RecipeError(
                "model.earlier: stack is said, but there is no earlier stage.",
                hint="Name the folders of finished runs on this model, or leave it out.",
            )
        return Stages([recipe])
    return _built(read, lambda number: _stage(read, number, where))


def _built(read: Document, build: Callable[[int], Recipe]) -> Stages:
    """The stages that a document lists, each built by its place; raises the faults of all of them as one error."""
    given, alone = read.values.get("stages"), read.values.get(ALONE)
    if not isinstance(alone, bool | None) or given is None:
        what = "is neither true nor false" if given is not None else "goes with `stages`, which the recipe has not"
        raise RecipeError(
            f"{ALONE}: {alone!r} {what}.",
            hint=f"`{ALONE}: true` beside `stages` trains each stage but the first also without those before it.",
        )
    if not isinstance(given, list) or not given or not all(isinstance(one, Mapping | None) for one in given):
        raise RecipeError(
            f"stages must be a list of mappings, each with what is other in that stage; it is {given!r}.",
            hint="For example stages: [{task: fill, data: corpus.txt}, {}]",
        )
    faults, found = [], []
    for number in range(len(given)):
        try:
            found.append(build(number))
        except UserError as error:
            faults.append((f"Stage {number + 1}", error))
    beforehand.refuse(faults)
    if told := beforehand.misfits(found):
        raise RecipeError("\n".join(told), hint="`tunesmith explain NAME` shows the settings of a part.")
    return Stages(found, bool(alone))


def _stage(read: Document, number: int, where: str) -> Recipe:
    values = {key: value for key, value in read.values.items() if key not in ("stages", ALONE)}
    own = dict(read.values["stages"][number] or {})
    if joint.KEY in own or joint.KEY in values:
        raise RecipeError(
            "tasks: a stage has one task; several train together in a recipe without stages.",
            hint="Train them first; a recipe with stages may then start from the model of one of them (`model`).",
        )
    beforehand.check_model(own.get("model"), number)
    above = {path: line for path, line in read.lines.items() if path[0] not in ("stages", ALONE)}
    inside = _inside(read, number, merged(values, own))
    return resolve(Document(inside.values, above | inside.lines), where)


def _inside(read: Document, number: int, values: Mapping[str, Any]) -> Document:
    """The values of a stage, with the lines on which they stand within the list of stages."""
    lines = {path[2:]: line for path, line in read.lines.items() if path[:2] == ("stages", number) and path[2:]}
    return Document(dict(values), lines)
