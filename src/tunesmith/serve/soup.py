"""The mean of several finished runs' weights, chosen on the validation split: of one recipe under several seeds, or at
several rates.

    soup.json    beside what is written: every run alone, the whole curve, what was taken, and the test metrics
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from tunesmith.core import registry, soup
from tunesmith.core.column import Row
from tunesmith.core.errors import RecipeError
from tunesmith.core.files import write_json
from tunesmith.core.notes import note, silent, warn
from tunesmith.core.panel import Panel, Table
from tunesmith.core.part import Task
from tunesmith.core.rows import Rows, each
from tunesmith.data.load import Splits
from tunesmith.data.load import load as load_data
from tunesmith.evaluate.predict import Predictor
from tunesmith.recipe import Recipe
from tunesmith.serve import merge
from tunesmith.serve.folder import check_data, read_finished
from tunesmith.serve.merge import Gathered, Mix
from tunesmith.train import faster, precision

FILE = "soup.json"


def make(runs: Sequence[Path], out: Path, mix: Mix, as_delta: str | None = None) -> dict[str, Any]:
    """Write the mean of the runs' weights, heads too, to `out`, as `merge.merge` does; of all (`mix.soup` "uniform"),
    or of those that don't harm ("greedy"): the best first, each is taken in if the validation metric does not fall.

    All is measured on rows of the first run: what is taken on its validation split; once each run, and the soup, on its
    test split. Returns what was done and measured. Raises RecipeError for runs of other tasks, classes or held-out
    rows, and without a validation split, RunFolderError for data that changed, and what `merge.merge` raises; nothing
    is written then.
    """
    mix.settled(len(runs))
    merge.check_way_out(out, as_delta)
    recipes = [read_finished(folder) for folder in runs]
    _check_tasks(runs, recipes)
    splits = _splits(runs, recipes)
    found = merge.gather(runs, precision.choose_device("auto"))
    if any(isinstance(module, _BatchNorm) for module in found.models[0].modules()):
        warn("The model keeps statistics of batches: the soup has the mean of the runs', not those of its own weights.")
    pot = Pot(found, splits)
    numbers = range(len(runs))
    order = sorted(numbers, key=lambda number: -pot.measured([number]))
    tried = soup.SOUPS[str(mix.soup)](order, pot.measured)
    taken = soup.taken(tried)
    told = {
        "soup": mix.soup, "metric": pot.task.metric, "higher_is_better": pot.task.higher_is_better,
        "rows": _hashes(splits),
        "runs": [
            {**one, "seed": recipe.train.seed, "validation": pot.validation([number]), "test": pot.test([number])}
            for number, one, recipe in zip(numbers, found.told, recipes, strict=True)
        ],
        "curve": [
            {"folder": str(runs[one.number]), "taken": one.taken, "validation": pot.sign * one.value} for one in tried
        ],
        "taken": [str(runs[number]) for number in taken],
        "validation": pot.validation(taken), "test": pot.test(taken),
        "largest_difference_of_merging": found.changed,
    }  # fmt: skip
    first, *others = found.runs
    settled = replace(first, recipe=replace(first.recipe, task=pot.settled(taken)))
    done = merge.write(replace(found, runs=[settled, *others]), pot.mean(taken), out, as_delta, told)
    write_json(out / FILE, done)
    return done


def panels(done: Mapping[str, Any]) -> list[Panel]:
    """What `make` returned, as a table: the runs in the order in which they were tried, then the soup."""
    alone = {one["folder"]: one for one in done["runs"]}
    metric = done["metric"]
    rows: list[list[Any]] = []
    for one in done["curve"]:
        run = alone[one["folder"]]
        told = "in" if one["taken"] else "out"
        rows.append([one["folder"], run["seed"], run["validation"], told, one["validation"], run["test"]])
    rows.append(["soup", "", "", "", done["validation"], done["test"]])
    columns = ["run", "seed", f"{metric} alone", "in or out", "of the soup with it", f"{metric} on test"]
    told = f"Chosen on {done['rows']['validation']['rows']:,} validation rows of the first run."
    if done["test"] is None:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
        told = f"{told} There is no test split, so nothing tells how it is on rows that chose nothing."
    return [Table(f"A {done['soup']} soup of {len(done['taken'])} of {len(done['runs'])} runs", columns, rows, told)]


class Pot:
    """Means of runs that were gathered, by the runs' numbers, and what they answer to the first run's held-out rows."""

    def __init__(self, found: Gathered, splits: Splits) -> None:
        self.found, self.splits = found, splits
        self.recipe = found.runs[0].recipe
        self.task = self.recipe.task
        self.sign = 1 if self.task.higher_is_better else -1
        self._known: dict[tuple[int, ...], tuple[float, Task]] = {}

    def mean(self, numbers: Sequence[int]) -> PreTrainedModel:
        """The mean of the weights of these runs; of one, its own."""
        if len(numbers) == 1:
            return self.found.models[numbers[0]]
        return merge.combine(self.found.some(numbers), Mix().settled(len(numbers)))

    def measured(self, numbers: Sequence[int]) -> float:
        """The validation metric of a mean, with its sign turned where less is better; the lowest of all where it is not
        defined.
        """
        value = self.sign * self.validation(numbers)
        return value if value == value else float("-inf")

    def validation(self, numbers: Sequence[int]) -> float:
        """The validation metric of a mean."""
        return self._measured(numbers)[0]

    def settled(self, numbers: Sequence[int]) -> Task:
        """The task with what it chose on the validation answers of a mean."""
        return self._measured(numbers)[1]

    def test(self, numbers: Sequence[int]) -> float | None:
        """The test metric of a mean; None where there is no test split."""
        if self.splits.test is None:
            return None
        task = self.settled(numbers)
        return task.metrics(*self._answers(self.mean(numbers), self.splits.test))[task.metric]

    def _measured(self, numbers: Sequence[int]) -> tuple[float, Task]:
        key = tuple(numbers)
        if key not in self._known:
            assert self.splits.validation is not None
            task, found = copy.deepcopy(self.task), self._answers(self.mean(numbers), self.splits.validation)
            with silent():
                task.settle(*found)
            self._known[key] = (task.metrics(*found)[task.metric], task)
            names = ", ".join(str(self.found.runs[number].folder) for number in numbers)
            note(f"{names}: {task.metric} {self._known[key][0]:.4f} on validation.")
        return self._known[key]

    def _answers(self, model: PreTrainedModel, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The right answers and the model's."""
        backbone, train = self.found.runs[0].backbone, self.recipe.train
        device = model.device.type
        kind = train.precision if device == train.device else precision.choose_precision("auto", device)
        predictor = Predictor(model, backbone.tokenizer, self.task, backbone.limit, kind)
        with faster.answering(model, self.recipe.speed):
            return self.task.truths(each(rows)), predictor.predict(rows).answers


def _check_tasks(runs: Sequence[Path], recipes: Sequence[Recipe]) -> None:
    """Refuse runs whose heads mean other things."""
    first = recipes[0].task
    for folder, recipe in zip(runs, recipes, strict=True):
        if merge.same_task([recipes[0], recipe]):
            continue
        task = recipe.task
        if task.word() != first.word():
            told = f"tasks: {first.word()} and {task.word()}"
        elif task.head() != first.head():
            told = f"classes: {_classes(first)} and {_classes(task)}"
        else:
            told = f"scales: {first.state()} and {task.state()}"
        raise RecipeError(
            f"--soup: {runs[0]} and {folder} have other {told}. Their heads have no mean.",
            hint="Take runs of one recipe under several seeds; without --soup others are merged too.",
        )


def _classes(task: Task) -> str:
    head = task.head()
    return ", ".join(map(str, head.get("id2label", head).values()))


def _splits(runs: Sequence[Path], recipes: Sequence[Recipe]) -> Splits:
    """The first run's rows, whose held-out splits must be those of all."""
    known: dict[str, Splits] = {}
    for folder, recipe in zip(runs, recipes, strict=True):
        key = json.dumps([recipe.data.model_dump(mode="json"), registry.spec(recipe.task)])
        if key not in known:
            with silent():  # what there is to say of these rows was said when the runs trained
                known[key] = load_data(recipe.data, recipe.task.columns())
        check_data(folder, known[key])
        first, own = next(iter(known.values())), known[key]
        if own.validation is None:
            raise RecipeError(
                f"--soup: the run {folder} has no validation split, on which a soup is chosen.",
                hint="Merge without --soup, or train with data.validation=0.1.",
            )
        if own is not first and (other := _differs(_hashes(first), _hashes(own))):
            raise RecipeError(
                f"--soup: the {other} rows of {folder} are not those of {runs[0]}: one would be measured on rows that "
                "it was trained on.",
                hint="Take runs with the same files and the same data.split_seed.",
            )
    return first


def _differs(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return next((name for name in ("validation", "test") if first.get(name) != other.get(name)), "")


def _hashes(splits: Splits) -> dict[str, dict[str, Any]]:
    """Of each held-out split the number of rows, and their hash."""
    both = {"validation": splits.validation, "test": splits.test}
    return {name: {"rows": len(rows), "sha256": _hash(rows)} for name, rows in both.items() if rows is not None}


def _hash(rows: Rows) -> str:
    """SHA-256 of the rows' contents, whatever their order and where they stand in a file."""
    digests = sorted(hashlib.sha256(_content(row)).digest() for row in each(rows))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _content(row: Row) -> bytes:
    held = {key: value for key, value in row.items() if key != "line"}
    return json.dumps(held, sort_keys=True, default=str).encode()
