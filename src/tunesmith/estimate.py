"""What a whole run takes, told from a miniature of it that is thrown away.

    start      the seconds until everything is ready, as they were in this very process
    train      the update with the longest rows, then a few that stand for an epoch, twice: later epochs may be cheaper
    evaluate   some rows of the validation split, inside the training as a run does it
    save       a checkpoint; the model, with its proof
    measure    the suites on growing parts of the held-out splits; the report
    further    the trainings that suites ask for, which are counted and not done: each as long as the run's own, by its
               share of the rows and its epochs

Each is timed apart and multiplied by how often, or by how many rows, the run does it. Memory is the peak of this
process, and what a whole epoch would add to it. A run that stops early takes less, and so does one that reads rows and
examples from the cache; what only a first reading of the rows costs is the caller's to leave out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith import run, trained
from tunesmith.account import METRICS
from tunesmith.core.finished import Further
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import silent
from tunesmith.core.part import Task
from tunesmith.core.peak import peak_memory
from tunesmith.core.rows import BLOCK
from tunesmith.data.load import Splits
from tunesmith.evaluate.predict import Predictor
from tunesmith.growth import grown, timed
from tunesmith.prepare import Prepared
from tunesmith.report import page
from tunesmith.train import loop, precision
from tunesmith.train.log import Log, lines
from tunesmith.train.settings import TrainSettings
from tunesmith.trial import Examples, Trial, few, words

PREDICTING, MEASURING = 2.0, 4.0
"""About how many seconds a trial may take that predicts, or that measures."""
NEVER = 10**9


@dataclass(frozen=True)
class Estimate:
    """Seconds of the parts of a run, of one update, and the most memory that it holds in bytes.

    starting: until the first update. training: all updates. evaluating: on the validation split, between updates.
    saving: checkpoints, and the model with its proof. measuring: the suites and the report. further: what suites train.
    """

    starting: float
    training: float
    evaluating: float
    saving: float
    measuring: float
    further: float
    a_step: float
    memory: int

    @property
    def seconds(self) -> float:
        """From the command to the report."""
        return float(sum(getattr(self, name) for name in PARTS))

    def facts(self) -> dict[str, float]:
        """By name, as `check` tells them."""
        parts = {f"seconds_{name}": getattr(self, name) for name in PARTS}
        return {
            "seconds_a_step": self.a_step,
            **parts,
            "estimated_seconds": self.seconds,
            "estimated_peak_memory_bytes": self.memory,
        }


PARTS = ("starting", "training", "evaluating", "saving", "measuring", "further")


@dataclass
class Counted:
    """Stands in for what trains the recipe again, and trains nothing. found: how often the whole training each would be
    that was asked for, by its name.
    """

    settings: TrainSettings
    found: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, changes: Mapping[str, Any], *, share: float = 1.0) -> Further:
        """Count one. A suite takes it for one that diverged, after which it asks for the others all the same."""
        length = "epochs" if self.settings.steps is None else "steps"
        own = getattr(self.settings, length)
        times = changes.get("train", {}).get(length, own) / own
        self.found[name] = times * (share if length == "epochs" else 1.0)
        return Further(name, failed="It was counted and not done.", diverged=True)


def estimate(prepared: Prepared, splits: Splits, examples: Examples, started: float, preparing: float) -> Estimate:
    """Run a miniature of what was prepared, which is of no use after it.

    examples: a sample of the training split, which tells how many words a whole epoch touches. started: the seconds
    that it took to get so far; preparing: those of them that each further training takes as well. Raises what a run
    would raise.
    """
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as quiet:
        folder = Path(temporary)
        started += timed(trained.lay_out, folder, prepared, splits)
        trial = _train(folder, prepared, splits, examples, quiet)
        memory = peak_memory() + _growing(folder, prepared, splits, trial)
        loaded, saved = _saved(folder, prepared)
        held_out = [len(part) for part in (splits.validation, splits.test) if part is not None]
        rows, counted = sum(held_out), Counted(prepared.recipe.train)

        def measure(count: int) -> None:
            share = count / max(1, rows)
            answering = _answering(prepared, share, max(held_out, default=0))
            run.evaluate(folder, answering, loaded, _shares(splits, share), counted)

        measuring = grown(measure, rows, MEASURING).of(rows) + timed(page.write, folder)
    epoch, updates = prepared.batches.updates_an_epoch, prepared.training.total_steps
    training = trial.all_updates(epoch, updates)
    evaluating, saving = _evaluating(trial, prepared, splits), saved + trial.saving * _checkpoints(prepared, training)
    times = counted.found.values()
    return Estimate(
        started,
        training,
        evaluating,
        saving,
        measuring,
        sum(times) * (training + evaluating + saving - saved) + len(times) * (preparing + saved),
        trial.a_step(epoch, updates),
        max(memory, peak_memory()),
    )


def _train(folder: Path, prepared: Prepared, splits: Splits, examples: Examples, quiet: ExitStack) -> Trial:
    batches, recipe, backbone = prepared.batches, prepared.recipe, prepared.backbone
    kept = batches.kept if batches.kept is not None and batches.kept.exists() else None
    batches = replace(batches, few=few(batches), kept=kept)
    settings = recipe.train.model_copy(update={"evaluate_every": NEVER, "checkpoint_every": NEVER})
    trial = Trial(batches.updates_an_epoch, min(2 * batches.updates_an_epoch, prepared.training.total_steps))

    def after_first() -> None:
        # What is said until here is true of the run as well.
        quiet.enter_context(silent())
        _touch(prepared, examples)

    def after_last() -> None:
        if splits.validation is None:
            return
        rows, predictor = (
            splits.validation,
            Predictor(backbone.model, backbone.tokenizer, recipe.task, backbone.limit, recipe.train.precision),
        )

        def validate(count: int) -> None:
            task = _answering(prepared, count / len(rows), len(rows)).recipe.task
            trained.validate(replace(predictor, task=task), _part(rows, count))

        trial.evaluation = grown(validate, len(rows), PREDICTING)
        trial.later = timed(validate, trial.evaluation.count)

    trial.after_first, trial.after_last = after_first, after_last
    outside = loop.Outside(folder / trained.CHECKPOINTS, Log(folder / METRICS), dict, trial.interrupted)
    replace(prepared, batches=batches, recipe=replace(recipe, train=settings)).train(outside)
    trial.saving = time.perf_counter() - trial.since
    # The loop leaves this to a later one where it was interrupted.
    precision.uncast(backbone.model)
    return trial


def _saved(folder: Path, prepared: Prepared) -> tuple[Any, float]:
    """The model, saved and loaded again, and the seconds that this took."""
    began = time.perf_counter()
    loaded = trained.save(folder, prepared)
    return loaded, time.perf_counter() - began


def _touch(prepared: Prepared, examples: Examples) -> None:
    """Let the tables of embeddings hold what a whole epoch touches: they take memory and time by that."""
    for table in getattr(prepared.training.optimizer, "tables", {}).values():
        if table.live:
            found = words(examples, len(prepared.batches.rows), len(table.weight))
            table.touch(torch.tensor(found, dtype=torch.long, device=table.weight.device))


def _growing(folder: Path, prepared: Prepared, splits: Splits, trial: Trial) -> int:
    """Bytes that a whole run holds in the main memory beyond what the miniature did: what frozen blocks gave for the
    other rows, and what other shapes take.
    """
    if prepared.recipe.train.device != "cpu":
        return 0
    shapes = int(trial.unseen(prepared.training.total_steps))
    found = [line for line in lines(folder / METRICS) if line["event"] == "frozen"]
    if not found:
        return shapes
    rows = len(prepared.batches.rows) + len(splits.validation or ())
    whole = found[-1]["bytes"] / found[-1]["kept"] * rows
    return shapes + max(0, min(int(whole), prepared.recipe.speed.frozen_megabytes * 2**20) - int(found[-1]["bytes"]))


def _evaluating(trial: Trial, prepared: Prepared, splits: Splits) -> float:
    """Seconds of all evaluations on the validation split."""
    if splits.validation is None or trial.evaluation is None:
        return 0.0
    count = _evaluations(prepared) + (type(prepared.recipe.task).settle is not Task.settle)
    rows, line = len(splits.validation), trial.evaluation
    # What frozen blocks gave for these rows may be there when they come again.
    return line.of(rows) + (count - 1) * line.again(rows) * trial.later / line.seconds


def _evaluations(prepared: Prepared) -> int:
    every = prepared.recipe.train.evaluate_every or prepared.batches.updates_an_epoch
    return ceil(prepared.training.total_steps / every)


def _checkpoints(prepared: Prepared, training: float) -> int:
    every = prepared.recipe.train.checkpoint_every
    if every is not None:
        return ceil(prepared.training.total_steps / every)
    return _evaluations(prepared) + int(training / loop.CHECKPOINT_SECONDS)


def _answering(prepared: Prepared, share: float, rows: int) -> Prepared:
    """The same with a task that writes for as many of a share of the rows as it does for that share of the whole."""
    task = prepared.recipe.task
    answered = getattr(task, "answered", None)
    if answered is None:
        return prepared
    # It writes for so many of each block of rows.
    task = task.model_copy(update={"answered": ceil(answered * min(1.0, share * max(1.0, rows / BLOCK)))})
    return replace(prepared, recipe=replace(prepared.recipe, task=task))


def _shares(splits: Splits, share: float) -> Splits:
    return replace(splits, validation=_share(splits.validation, share), test=_share(splits.test, share))


def _share(rows: Mapped | None, share: float) -> Mapped | None:
    return None if rows is None else _part(rows, max(1, round(share * len(rows))))


def _part(rows: Mapped, count: int) -> Mapped:
    """Evenly spread rows."""
    return rows if count >= len(rows) else rows.select(np.linspace(0, len(rows) - 1, count).astype(int))
