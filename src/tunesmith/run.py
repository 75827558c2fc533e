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
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from tunesmith import account, examples, measure, prepare, trained
from tunesmith.account import METRICS
from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import check_writable, read_json, remove_leftovers, write_json, writing_folder
from tunesmith.core.finished import Again
from tunesmith.core.notes import listening, note
from tunesmith.core.panel import Result
from tunesmith.core.world import Old
from tunesmith.data.load import Splits
from tunesmith.data.load import load as load_data
from tunesmith.further import FromRun
from tunesmith.interrupt import Interrupted
from tunesmith.measure import EVALUATION, AtHand
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.report import page
from tunesmith.serve import card, session
from tunesmith.serve.folder import check_data
from tunesmith.serve.session import MODEL, RECIPE, Session
from tunesmith.train.log import Log, Watcher
from tunesmith.train.tracking import Tracking, tracked
from tunesmith.trained import CHECKPOINTS, DATA, PROOF

LOCK, PREDICTIONS = ".lock", "predictions"


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
            trained.lay_out(temporary, prepared, splits)
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
            show(folder)
            return Run(folder, True)
        splits = load_data(recipe.data, recipe.task.columns())
        check_data(folder, splits)
        return _go_on(folder, prepare.prepare(recipe, splits, before, folder), splits, watch, notes)


def _go_on(folder: Path, prepared: prepare.Prepared, splits: Splits, watch: Watcher | None, notes: list[str]) -> Run:
    with tracked(prepared.recipe.trackers, folder, prepared.recipe.values(), watch) as told:
        return _to_the_end(folder, prepared, splits, told, notes)


def _to_the_end(folder: Path, prepared: prepare.Prepared, splits: Splits, told: Tracking, notes: list[str]) -> Run:
    log = Log(folder / METRICS, told)
    if not (folder / MODEL).is_dir() and not trained.train(folder, prepared, splits, log):
        return Run(folder, False)
    # Examples as the model saw them are for the report alone: training need not wait for them.
    panels = [*splits.panels, *account.mixed(folder, prepared), *examples.sample(prepared).panels()]
    write_json(folder / DATA, Result([], panels).as_json())
    account.judge(folder)
    loaded = trained.save(folder, prepared)
    for text in notes:
        log.write("note", text=text)
    # A suite may train further models: nothing of this training's state is needed any more.
    prepared.training.optimizer.state.clear()
    try:
        evaluate(folder, prepared, loaded, splits, FromRun.of(folder, prepared, splits, told.watch))
    except Interrupted:
        return Run(folder, False)
    # Nothing is left to resume: the model is saved and proven.
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    show(folder)
    told.finish({"": read_json(folder / EVALUATION)}, folder / page.NAME)
    return Run(folder, True)


def show(folder: Path) -> None:
    """Write what a finished run shows: its report, and the card of its model."""
    card.write(folder)
    page.write(folder)


def evaluate(
    folder: Path, prepared: prepare.Prepared, loaded: Backbone, splits: Splits, again: Again | None = None
) -> None:
    """Measure a trained model that was saved and loaded again, with every suite, on every held-out split. again: what
    trains its recipe once more, where suites may.
    """
    recipe = prepared.recipe
    held_out = {"validation": splits.validation, "test": splits.test}
    there = {name: rows for name, rows in held_out.items() if rows is not None}
    evaluation = {
        "title": recipe.title,
        "metric": recipe.task.metric,
        "higher_is_better": recipe.task.higher_is_better,
        "suites": measure.suites(
            recipe, loaded, there, folder / PREDICTIONS, AtHand(folder, splits.train, again, splits.sources)
        ),
        "cost": account.cost(folder, prepared),
        "artifact": read_json(folder / PROOF),
    }
    write_json(folder / EVALUATION, evaluation)


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
