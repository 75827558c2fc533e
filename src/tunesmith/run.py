"""A run from its recipe to its report: load, train, save and prove, measure, show.

    prepare   rows are read and checked, the model is loaded: nothing is written before both are right
    train     the loop; killed or interrupted, `resume` goes on from the last checkpoint
    save      model/ is written, loaded again, and its outputs are compared with the trained model's
    measure   every suite; predictions/ and evaluation.json
    show      report.html

Every stage leaves a file that is whole or absent, so that a run killed in any of them goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from tunesmith import account, examples, measure, prepare
from tunesmith.account import METRICS
from tunesmith.core.column import Row
from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import (
    check_writable,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
    writing_folder,
)
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import listening, note
from tunesmith.core.panel import Result
from tunesmith.core.part import Task
from tunesmith.core.peak import peak_memory
from tunesmith.core.rows import each, take
from tunesmith.core.world import Old
from tunesmith.data import sources
from tunesmith.data.load import Splits
from tunesmith.data.load import load as load_data
from tunesmith.evaluate.predict import Predictor
from tunesmith.interrupt import Interrupt
from tunesmith.measure import EVALUATION
from tunesmith.models import artifact
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.report import page
from tunesmith.serve import session
from tunesmith.serve.folder import ENVIRONMENT, TOKENIZER, check_data
from tunesmith.serve.session import MODEL, PROBE, RECIPE, TASK, Session
from tunesmith.train import faster, loop
from tunesmith.train.log import Log, Watcher
from tunesmith.train.tracking import Tracking, tracked

DATA, LOCK = "data.json", ".lock"
CHECKPOINTS, PREDICTIONS, PROOF = "checkpoints", "predictions", "proof.json"
PROBED = 16


@dataclass(frozen=True)
class Run:
    """A run folder. `finished` is False when the user interrupted the training: `resume` goes on.

    sequence: the folder of all stages, where this is the last of several that were run one after another.
    """

    folder: Path
    finished: bool
    sequence: Path | None = None

    @property
    def evaluation(self) -> dict[str, Any]:
        """What the suites measured."""
        return cast(dict[str, Any], read_json(self.folder / EVALUATION))

    def session(self) -> Session:
        """The trained model, ready to predict."""
        return session.load(self.folder)


def start(
    recipe: Recipe, out: str | Path | None = None, watch: Watcher | None = None, before: Sequence[Old] = ()
) -> Run:
    """Run a recipe in a new folder, after the stages `before`. Bad data, a bad model, a folder that is taken: raised
    before anything is written.
    """
    folder = new_folder(recipe, out)
    with listening() as notes:
        recipe = prepare.settle(recipe)
        splits = load_data(recipe.data, recipe.task.columns())
        prepare.check_fit(recipe, splits)
        prepare.learn(recipe, splits)
        prepared = prepare.prepare(recipe, splits, before, folder)
        with writing_folder(folder) as temporary:
            lay_out(temporary, prepared, splits)
        with locked(folder):
            return _go_on(folder, prepared, splits, watch, notes)


def resume(folder: str | Path, watch: Watcher | None = None, before: Sequence[Old] = ()) -> Run:
    """Go on with a run where it stopped, exactly. Data that changed since raises RunFolderError."""
    folder = Path(folder)
    recipe = session.read_recipe(folder)
    with listening() as notes, locked(folder):
        remove_leftovers(folder)
        if (folder / EVALUATION).is_file():
            note(f"The run {folder} is finished; its report is written anew.")
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            page.write(folder)
            return Run(folder, True)
        splits = load_data(recipe.data, recipe.task.columns())
        check_data(folder, splits)
        return _go_on(folder, prepare.prepare(recipe, splits, before, folder), splits, watch, notes)


def lay_out(folder: Path, prepared: prepare.Prepared, splits: Splits) -> None:
    """Write what a run's folder holds before the first update."""
    recipe = replace(prepared.recipe, data=sources.absolute(prepared.recipe.data))
    write_json(folder / TASK, recipe.task.state())
    write_json(folder / DATA, Result([], splits.panels).as_json())
    write_json(folder / ENVIRONMENT, account.environment(recipe, splits))
    write_json(folder / PROBE, _probe(recipe, splits))
    if recipe.model.tokenizer is not None:
        write_text(folder / TOKENIZER, recipe.model.tokenizer)
    write_text(folder / RECIPE, recipe.text())


def _go_on(folder: Path, prepared: prepare.Prepared, splits: Splits, watch: Watcher | None, notes: list[str]) -> Run:
    with tracked(prepared.recipe.trackers, folder, prepared.recipe.values(), watch) as told:
        return _to_the_end(folder, prepared, splits, told, notes)


def _to_the_end(folder: Path, prepared: prepare.Prepared, splits: Splits, told: Tracking, notes: list[str]) -> Run:
    log = Log(folder / METRICS, told)
    if not (folder / MODEL).is_dir() and not _train(folder, prepared, splits, log):
        return Run(folder, False)
    # Examples as the model saw them are for the report alone: training need not wait for them.
    panels = [*splits.panels, *account.mixed(folder, prepared), *examples.sample(prepared).panels()]
    write_json(folder / DATA, Result([], panels).as_json())
    account.judge(folder)
    loaded = save(folder, prepared)
    for text in notes:
        log.write("note", text=text)
    evaluate(folder, prepared, loaded, splits)
    # Nothing is left to resume: the model is saved and proven.
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    told.finish({"": read_json(folder / EVALUATION)}, page.write(folder))
    return Run(folder, True)


def _train(folder: Path, prepared: prepare.Prepared, splits: Splits, log: Log) -> bool:
    backbone, recipe = prepared.backbone, prepared.recipe
    predictor = Predictor(backbone.model, backbone.tokenizer, recipe.task, backbone.limit, recipe.train.precision)
    with Interrupt() as interrupt:
        outside = loop.Outside(
            folder / CHECKPOINTS, log, lambda: validate(predictor, splits.validation), interrupt.asked
        )
        ended = prepared.train(outside)
    log.write("memory", step=prepared.training.step, peak_bytes=peak_memory())
    if ended and splits.validation is not None and type(recipe.task).settle is not Task.settle:
        with faster.answering(backbone.model, recipe.speed):
            found = predictor.predict(splits.validation)
        recipe.task.settle(recipe.task.truths(each(splits.validation)), found.answers)
        write_json(folder / TASK, recipe.task.state())
    return ended


def validate(predictor: Predictor, rows: Mapped | None) -> Mapping[str, float]:
    """Loss and metrics on the validation split; nothing where there is none."""
    if rows is None:
        return {}
    task, found = predictor.task, predictor.predict(rows)
    return {"loss": found.loss, **task.metrics(task.truths(each(rows)), found.answers)}


def save(folder: Path, prepared: prepare.Prepared) -> Backbone:
    """Write model/, load it again and compare, before it takes its place; return what was loaded.

    A model that is there already (of a run that was killed later) was proven, and is only loaded.
    """
    recipe, backbone = prepared.recipe, prepared.backbone
    if not (folder / MODEL).is_dir():
        rows = read_json(folder / PROBE)
        trained = artifact.outputs(backbone.model, session.probe_batches(recipe, backbone, rows))
        artifact.check_finite(trained)
        with writing_folder(folder / MODEL) as temporary:
            artifact.write(backbone, recipe.method, recipe.task, temporary)
            saved = _load(temporary, recipe)
            again = artifact.outputs(saved.model, session.probe_batches(recipe, saved, rows))
            difference = artifact.prove(trained, again, "The saved model")
            proof = {"folder": MODEL, "compared_rows": len(rows), "largest_difference": difference}
            write_json(folder / PROOF, proof)
    loaded = _load(folder / MODEL, recipe)
    loaded.model.to(prepared.accelerator.device)
    return loaded


def _load(folder: Path, recipe: Recipe) -> Backbone:
    return artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)


def evaluate(folder: Path, prepared: prepare.Prepared, loaded: Backbone, splits: Splits) -> None:
    """Measure a trained model that was saved and loaded again, with every suite, on every held-out split."""
    recipe = prepared.recipe
    held_out = {"validation": splits.validation, "test": splits.test}
    there = {name: rows for name, rows in held_out.items() if rows is not None}
    evaluation = {
        "title": recipe.title,
        "metric": recipe.task.metric,
        "higher_is_better": recipe.task.higher_is_better,
        "suites": measure.suites(recipe, loaded, there, folder / PREDICTIONS, splits.train),
        "cost": account.cost(folder, prepared),
        "artifact": read_json(folder / PROOF),
    }
    write_json(folder / EVALUATION, evaluation)


def _probe(recipe: Recipe, splits: Splits) -> list[Row]:
    """Rows on which the trained, the saved and the merged model are compared: inputs alone."""
    rows = splits.validation or splits.test or splits.train
    roles = [column.role for column in recipe.task.columns() if not column.target]
    return [{role: row[role] for role in roles if role in row} for row in take(rows, slice(0, PROBED))]


def new_folder(recipe: Recipe, out: str | Path | None) -> Path:
    """The folder of a new run; one that holds something, or can't be written, raises RunFolderError."""
    if out is None:
        stem = f"{Path(recipe.data.train).name.split('.')[0]}-{recipe.method.word()}"
        stamp = time.strftime("%Y%m%d-%H%M%S")
        out = Path("runs") / f"{stem}-{stamp}"
    folder = Path(out)
    check_writable(folder)
    if (folder / RECIPE).exists():
        raise RunFolderError(
            f"The folder {folder} holds a run already.",
            hint=f"Go on with it: tunesmith resume {folder}. Or give another folder with --out.",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(
            f"{folder} exists and is not a run: nothing in it is touched.", hint="Give another folder with --out."
        )
    return folder


def locked(folder: Path) -> AbstractContextManager[object]:
    """A lock that the system lets go when its holder dies. A folder in use raises RunFolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / LOCK, timeout=0).acquire()
    except Timeout:
        raise RunFolderError(
            f"Another process is writing to the run {folder}.", hint="Wait for it to end, or stop it."
        ) from None
    except OSError as error:
        raise RunFolderError(
            f"The folder {folder} can't be written to: {error.strerror}.", hint="Give another folder with --out."
        ) from None
