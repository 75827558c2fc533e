"""What a whole run takes, told from a miniature of it that is thrown away.

    start      the seconds until everything is ready, as they were in this very process
    train      the update with the longest rows, then a few that stand for an epoch, twice: later epochs may be cheaper
    evaluate   some rows of the validation split, inside the training as a run does it
    save       a checkpoint; the model, with its proof
    measure    the suites on growing parts of the held-out splits; the report

Each is timed apart and multiplied by how often, or by how many rows, the run does it. Memory is the peak of this
process, and what a whole epoch would add to it. A run that stops early takes less, and so does one that reads rows and
examples from the cache; what only a first reading of the rows costs is the caller's to leave out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from tunesmith import run
from tunesmith.account import METRICS
from tunesmith.core.notes import silent
from tunesmith.core.part import Task
from tunesmith.core.peak import peak_memory
from tunesmith.core.rows import BLOCK
from tunesmith.data.load import Splits
from tunesmith.evaluate.predict import Predictor
from tunesmith.growth import Growth, grown, timed
from tunesmith.prepare import Prepared
from tunesmith.report import page
from tunesmith.train import loop
from tunesmith.train.batches import Batches
from tunesmith.train.log import Log, lines

FEW = 8
"""Updates beside the first that stand for an epoch."""
PATIENCE = 20.0
"""Seconds after which no further update is tried, once there are ENOUGH."""
ENOUGH = 3
PREDICTING, MEASURING = 2.0, 4.0
"""About how many seconds a trial may take that predicts, or that measures."""
ODD = 10
"""How many times the median an update takes that did something else besides: it is counted once."""
NEVER = 10**9
Examples = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Estimate:
    """Seconds of the parts of a run, of one update, and the most memory that it holds in bytes.

    starting: until the first update. training: all updates. evaluating: on the validation split, between updates.
    saving: checkpoints, and the model with its proof. measuring: the suites and the report.
    """

    starting: float
    training: float
    evaluating: float
    saving: float
    measuring: float
    a_step: float
    memory: int

    @property
    def seconds(self) -> float:
        """From the command to the report."""
        return self.starting + self.training + self.evaluating + self.saving + self.measuring

    def facts(self) -> dict[str, float]:
        """By name, as `check` tells them."""
        parts = {f"seconds_{name}": getattr(self, name) for name in PARTS}
        return {
            "seconds_a_step": self.a_step,
            **parts,
            "estimated_seconds": self.seconds,
            "estimated_peak_memory_bytes": self.memory,
        }


PARTS = ("starting", "training", "evaluating", "saving", "measuring")


def estimate(prepared: Prepared, splits: Splits, examples: Examples, started: float) -> Estimate:
    """Run a miniature of what was prepared, which is of no use after it.

    examples: a sample of the training split, which tells how many words a whole epoch touches. started: the seconds
    that it took to get so far. Raises what a run would raise.
    """
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as quiet:
        folder = Path(temporary)
        started += timed(run.lay_out, folder, prepared, splits)
        trial = _train(folder, prepared, splits, examples, quiet)
        memory = peak_memory() + _growing(folder, prepared, splits)
        loaded, saved = _saved(folder, prepared)
        held_out = [len(part) for part in (splits.validation, splits.test) if part is not None]
        rows = sum(held_out)

        def measure(count: int) -> None:
            share = count / max(1, rows)
            run.evaluate(folder, _answering(prepared, share, max(held_out, default=0)), loaded, _shares(splits, share))

        measuring = grown(measure, rows, MEASURING).of(rows) + timed(page.write, folder)
    epoch, updates = prepared.batches.updates_an_epoch, prepared.training.total_steps
    training = trial.all_updates(epoch, updates)
    return Estimate(
        started,
        training,
        trial.all_evaluations(prepared, splits),
        saved + trial.saving * _checkpoints(prepared, training),
        measuring,
        trial.a_step(epoch, updates),
        max(memory, peak_memory()),
    )


@dataclass
class Trial:
    """The training of the miniature, watched.

    epoch: how many updates stand for one. wanted: after how many it ends. after_first, after_last: what is done then.
    seconds: of each update. evaluation: on the validation split; later: seconds of its largest trial when it came
    again. saving: seconds of the end of the loop, with a checkpoint. since: when what comes next began.
    """

    epoch: int
    wanted: int
    after_first: Callable[[], object] = lambda: None
    after_last: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)
    evaluation: Growth | None = None
    later: float = 0.0
    saving: float = 0.0
    since: float = field(default_factory=time.perf_counter)

    def interrupted(self) -> bool:
        """What the loop asks after every update: whether to stop, after a checkpoint."""
        self.seconds.append(time.perf_counter() - self.since)
        if len(self.seconds) == 1:
            self.after_first()
        tired = len(self.seconds) > ENOUGH and sum(self.seconds) > PATIENCE
        ended = tired or len(self.seconds) >= self.wanted
        if ended:
            self.after_last()
        self.since = time.perf_counter()
        return ended

    def a_step(self, epoch: int, updates: int) -> float:
        """Seconds of an update, the first left out where there are others."""
        first = self.seconds[0]
        return (self.all_updates(epoch, updates) - first) / (updates - 1) if updates > 1 else first

    def all_updates(self, epoch: int, updates: int) -> float:
        """Seconds of all updates of a run with so many in an epoch."""
        first, *others = self.seconds[: self.epoch]
        # The first of an epoch has the longest rows, and stands for itself alone.
        again = self.seconds[self.epoch + 1 :] or self.seconds[self.epoch :] or others or [first]
        early, odd = _usual(others)
        late, odder = _usual(again)
        in_first = min(updates, epoch) - 1
        return first + odd + odder + in_first * early + (updates - 1 - in_first) * late

    def all_evaluations(self, prepared: Prepared, splits: Splits) -> float:
        """Seconds of all evaluations on the validation split."""
        if splits.validation is None or self.evaluation is None:
            return 0.0
        count = _evaluations(prepared) + (type(prepared.recipe.task).settle is not Task.settle)
        rows = len(splits.validation)
        factor = self.later / self.evaluation.seconds
        return self.evaluation.of(rows) + (count - 1) * factor * self.evaluation.again(rows)


def few(batches: Batches) -> list[np.ndarray]:
    """Updates that stand for an epoch: its first, and by size the middle of each of FEW equal shares of the rest."""
    first, *others = batches.epoch(0)
    others.sort(key=lambda rows: int(batches.lengths[rows].sum()))
    shares = min(FEW, len(others))
    places = [int((share + 0.5) / shares * len(others)) for share in range(shares)]
    return [first, *(others[place] for place in np.random.default_rng(0).permutation(places))] if places else [first]


def words(examples: Examples, rows: int, vocabulary: int) -> list[int]:
    """Ids of as many different words as `rows` rows are expected to hold, those of the examples among them.

    By Heaps' law the number of different words grows as rows^b; b is found by the examples and by half of them.
    """
    known, half = _distinct(examples), _distinct(examples[::2])
    if not known:
        return []
    growth = log2(len(known) / len(half)) if half else 1.0
    wanted = min(vocabulary, round(len(known) * (max(rows, len(examples)) / len(examples)) ** growth))
    others = (word for word in range(vocabulary) if word not in known)
    return [*sorted(known), *(next(others) for _ in range(wanted - len(known)))]


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
            run.validate(replace(predictor, task=task), _part(rows, count))

        trial.evaluation = grown(validate, len(rows), PREDICTING)
        trial.later = timed(validate, trial.evaluation.count)

    trial.after_first, trial.after_last = after_first, after_last
    outside = loop.Outside(folder / run.CHECKPOINTS, Log(folder / METRICS), dict, trial.interrupted)
    replace(prepared, batches=batches, recipe=replace(recipe, train=settings)).train(outside)
    trial.saving = time.perf_counter() - trial.since
    # The loop leaves this to a later one where it was interrupted.
    prepared.accelerator.unwrap_model(backbone.model, keep_fp32_wrapper=False)
    return trial


def _saved(folder: Path, prepared: Prepared) -> tuple[Any, float]:
    """The model, saved and loaded again, and the seconds that this took."""
    began = time.perf_counter()
    loaded = run.save(folder, prepared)
    return loaded, time.perf_counter() - began


def _touch(prepared: Prepared, examples: Examples) -> None:
    """Let the tables of embeddings hold what a whole epoch touches: they take memory and time by that."""
    for table in getattr(prepared.training.optimizer, "tables", {}).values():
        if table.live:
            found = words(examples, len(prepared.batches.rows), len(table.weight))
            table.touch(torch.tensor(found, dtype=torch.long, device=table.weight.device))


def _growing(folder: Path, prepared: Prepared, splits: Splits) -> int:
    """Bytes that a whole run keeps of what frozen blocks gave, beyond what the miniature kept."""
    found = [line for line in lines(folder / METRICS) if line["event"] == "frozen"]
    if not found or prepared.recipe.train.device != "cpu":
        return 0
    rows = len(prepared.batches.rows) + len(splits.validation or ())
    whole = found[-1]["bytes"] / found[-1]["kept"] * rows
    return max(0, min(int(whole), prepared.recipe.speed.frozen_megabytes * 2**20) - int(found[-1]["bytes"]))


def _evaluations(prepared: Prepared) -> int:
    every = prepared.recipe.train.evaluate_every or prepared.batches.updates_an_epoch
    return ceil(prepared.training.total_steps / every)


def _checkpoints(prepared: Prepared, training: float) -> int:
    every = prepared.recipe.train.checkpoint_every
    if every is not None:
        return ceil(prepared.training.total_steps / every)
    return _evaluations(prepared) + int(training / loop.CHECKPOINT_SECONDS)


def _usual(seconds: Sequence[float]) -> tuple[float, float]:
    """The mean of some updates, and the seconds of those that did something else besides."""
    if not seconds:
        return 0.0, 0.0
    most = ODD * float(np.median(seconds))
    usual = [one for one in seconds if one <= most]
    return float(np.mean(usual)), sum(one for one in seconds if one > most)


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
    parts = {
        name: None if rows is None else _part(rows, max(1, round(share * len(rows))))
        for name, rows in (("validation", splits.validation), ("test", splits.test))
    }
    return replace(splits, **parts)


def _part(rows: Dataset, count: int) -> Dataset:
    """Evenly spread rows."""
    return rows if count >= len(rows) else rows.select(np.linspace(0, len(rows) - 1, count).astype(int))


def _distinct(examples: Examples) -> set[int]:
    return {word for example in examples for word in _ids(example)}


def _ids(value: Mapping[str, Any]) -> Iterator[int]:
    """Every token id of an example, of whatever parts it is made."""
    for name, inner in value.items():
        if name == "input_ids":
            yield from inner
        elif isinstance(inner, Mapping):
            yield from _ids(inner)
        elif isinstance(inner, list) and inner and isinstance(inner[0], Mapping):
            for one in inner:
                yield from _ids(one)
