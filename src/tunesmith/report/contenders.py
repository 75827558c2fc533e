"""What is compared: finished runs of one task, those that differ in their seed alone taken together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from tunesmith.core import document
from tunesmith.core.errors import RunFolderError, UserError, raise_faults
from tunesmith.core.panel import Figure
from tunesmith.evaluate import over_seeds
from tunesmith.report.lead import MODEL, SPLITS
from tunesmith.report.record import Evaluation, Record, read
from tunesmith.report.wording import listing

SEED = "train.seed"
FEWEST = 3
"""Runs from which on those that differ in their seed alone are one group."""
Key = tuple[str, str, str, str]
"""Of a figure: suite, split, subject, name."""


@dataclass(frozen=True)
class Finished:
    """One finished run that can be compared. values: its recipe; settings: the same by dotted keys."""

    name: str
    record: Record
    evaluation: Evaluation
    values: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe by dotted keys."""
        return document.flat(self.values)

    @property
    def task(self) -> str:
        """The name of its task."""
        return str(_named(self.values.get("task")))

    def main(self, split: str) -> Figure | None:
        """The main metric of the model on a split."""
        every = (figure for suite in self.evaluation.suites.values() for figure in suite.figures)
        wanted = (self.evaluation.metric, split, MODEL)
        return next((one for one in every if (one.name, one.split, one.subject) == wanted), None)

    def hash_of(self, split: str) -> str | None:
        """SHA-256 of the file that a split comes from."""
        about = ((self.record.environment or {}).get("data") or {}).get(split) or {}
        return about.get("sha256") if isinstance(about, Mapping) else None

    def figures(self) -> dict[Key, Figure]:
        """Every figure of every suite."""
        suites = self.evaluation.suites.items()
        return {(suite, one.split, one.subject, one.name): one for suite, found in suites for one in found.figures}


@dataclass(frozen=True)
class Contender:
    """One run, or several that differ in their seed alone."""

    name: str
    runs: Sequence[Finished]

    @property
    def grouped(self) -> bool:
        """Whether it is several runs."""
        return len(self.runs) > 1

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe by dotted keys; of a group with all its seeds."""
        seeds = ", ".join(str(run.settings.get(SEED)) for run in self.runs)
        return self.runs[0].settings | ({SEED: seeds} if self.grouped else {})

    def main(self, split: str) -> Figure:
        """The main metric on a split, as of `figures`."""
        found = [run.main(split) for run in self.runs]
        return _mean([one for one in found if one is not None])

    def by_seed(self, split: str) -> dict[int, float]:
        """The main metric of each run, by its seed."""
        return {int(run.settings.get(SEED) or 0): figure.value for run in self.runs if (figure := run.main(split))}

    def figures(self) -> dict[Key, Figure]:
        """Every figure that all runs have; of a group the mean over its runs, with Student's interval."""
        each = [run.figures() for run in self.runs]
        return {key: _mean([one[key] for one in each]) for key in each[0] if all(key in one for one in each)}

    def cost(self, name: str) -> float | None:
        """What the training cost, the mean of its runs; None where one does not tell."""
        found = [run.evaluation.cost.get(name) for run in self.runs]
        known = [float(value) for value in found if isinstance(value, int | float)]
        return sum(known) / len(known) if len(known) == len(found) else None


def gathered(folders: Sequence[Path]) -> list[Finished]:
    """The runs, read. Raises RunFolderError with all that is in the way of comparing them."""
    if len(folders) < 2:
        raise RunFolderError("One run alone can't be compared.", hint="Give the folders of two or more finished runs.")
    faults = _twice(folders)
    found = []
    for folder, name in zip(folders, names(folders), strict=True):
        try:
            found.append(_finished(folder, name))
        except UserError as error:
            faults.append(error.message)
    if found:
        faults += [fault for run in found[1:] for fault in _other(found[0], run)]
        if not faults and not any(all(run.main(split) for run in found) for split in SPLITS):
            faults.append(f"no split has the metric {found[0].evaluation.metric} of all of them")
    raise_faults(RunFolderError, "These runs can't be compared:", faults, hint="Compare finished runs of one task.")
    return found


def split_of(runs: Sequence[Finished]) -> str:
    """The split on which all runs are judged: the test split, or the validation split where one has no other."""
    return next(split for split in SPLITS if all(run.main(split) for run in runs))


def contenders(runs: Sequence[Finished]) -> list[Contender]:
    """Each run by itself, but from FEWEST on those that differ in their seed alone together, in the given order."""
    alike: dict[str, list[Finished]] = {}
    for run in runs:
        alike.setdefault(_recipe(run), []).append(run)
    found: list[Contender] = []
    for some in alike.values():
        if len(some) >= FEWEST and len({run.settings.get(SEED) for run in some}) == len(some):
            found.append(Contender(_common([run.name for run in some]), some))
        else:
            found += [Contender(run.name, [run]) for run in some]
    return sorted(found, key=lambda one: min(runs.index(run) for run in one.runs))


def alike_but_for_seeds(found: Sequence[Contender]) -> list[str]:
    """A sentence for each pair of runs with one recipe, too few to be a group."""
    single = [one.runs[0] for one in found if not one.grouped]
    told = []
    for place, run in enumerate(single):
        for other in single[place + 1 :]:
            if _recipe(run) == _recipe(other):
                same = run.settings.get(SEED) == other.settings.get(SEED)
                what = (
                    "have the same recipe and seed" if same else "differ in their seed alone: as a seed may make them"
                )
                told.append(f"{run.name} and {other.name} {what}.")
    return told


def differing(found: Sequence[Contender]) -> dict[str, list[Any]]:
    """The keys of the recipes that differ, with the value of each contender (None: not there)."""
    settings = [one.settings for one in found]
    keys = dict.fromkeys(key for one in settings for key in one)
    values = {key: [one.get(key) for one in settings] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row[1:])}


def names(folders: Sequence[Path]) -> list[str]:
    """What to call runs: their folders' names, or as much of their paths as tells them apart."""
    paths = [folder.resolve() for folder in folders]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    above = Path(os.path.commonpath([path.parent for path in paths]))
    return [str(path.relative_to(above)) for path in paths]


def _finished(folder: Path, name: str) -> Finished:
    record = read(folder)
    if record.recipe is None:
        raise RunFolderError(f"{folder} is not a run: it has no recipe.yaml")
    values = document.read(folder / "recipe.yaml").values
    if "tasks" in values:
        raise RunFolderError(f"{folder} holds several tasks: give the folder of one of them")
    if record.evaluation is None:
        raise RunFolderError(f"{folder} is not finished: go on with `tunesmith resume {folder}`")
    return Finished(name, record, record.evaluation, values)


def _twice(folders: Sequence[Path]) -> list[str]:
    paths = [folder.resolve() for folder in folders]
    return [f"{path} is given {paths.count(path)} times" for path in dict.fromkeys(paths) if paths.count(path) > 1]


def _other(first: Finished, run: Finished) -> list[str]:
    if run.task != first.task:
        return [f"the task of {run.name} is {run.task}, that of {first.name} is {first.task}"]
    metrics = [one.evaluation.metric for one in (run, first)]
    if metrics[0] != metrics[1]:
        return [f"{run.name} is judged by {metrics[0]}, {first.name} by {metrics[1]}"]
    return []


def _recipe(run: Finished) -> str:
    """Everything of a run but its seed, as a key: recipe and data."""
    settings = {key: value for key, value in run.settings.items() if key != SEED}
    hashes = [run.hash_of(split) for split in ("train", *SPLITS)]
    return json.dumps([settings, hashes], sort_keys=True, default=str)


def _common(names_of: Sequence[str]) -> str:
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names_of, strict=False))
    start = "".join(letters[0] for letters in alike).rstrip("-_. 0123456789")
    start = start.removesuffix("seed").rstrip("-_. ")
    return f"{start or names_of[0]} ({len(names_of)} seeds)"


def _mean(found: Sequence[Figure]) -> Figure:
    if len(found) == 1:
        return found[0]
    value, (low, high) = over_seeds.mean([one.value for one in found])
    first = found[0]
    return Figure(first.name, value, first.split, first.subject, low, high)


def _named(spec: Any) -> Any:
    return spec.get("name") if isinstance(spec, Mapping) else spec


def told_groups(found: Sequence[Contender]) -> list[str]:
    """A sentence for each group."""
    return [
        f"{one.name} is {listing([run.name for run in one.runs])}, which differ in their seed alone: its figures are "
        "means over them, with Student's interval over seeds."
        for one in found
        if one.grouped
    ]
