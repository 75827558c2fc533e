"""What a run would do, without doing it: what the model will see, what would train, how long and how much memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PrivateAttr

from tunesmith import account, examples, prepare
from tunesmith.core import surgery
from tunesmith.core.panel import Panel, Result
from tunesmith.core.part import Part
from tunesmith.core.step import Training
from tunesmith.data.load import load as load_data
from tunesmith.recipe import Recipe
from tunesmith.train import loop
from tunesmith.train.log import Log

TIMED = 2


class Stopwatch(Part):
    """A part that only looks at the clock after every step."""

    _times: list[float] = PrivateAttr(default_factory=list)

    def after_step(self, training: Training) -> None:
        """Note the time."""
        self._times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Mean seconds of the steps after the first, which warms the machine up."""
        return float(np.mean(np.diff(self._times)))


@dataclass(frozen=True)
class Checked:
    """What was seen."""

    panels: list[Panel]
    facts: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**Result([], self.panels).as_json(), **self.facts}


def check_all(stages: Sequence[Recipe]) -> Checked:
    """Look at every stage of a recipe, each as if it started from the recipe's own backbone."""
    found = [check(stage) for stage in stages]
    if len(found) == 1:
        return found[0]
    names = [f"{number}-{stage.task.word()}" for number, stage in enumerate(stages, 1)]
    panels = [
        replace(panel, title=f"{name}: {panel.title}")
        for name, one in zip(names, found, strict=True)
        for panel in one.panels
    ]
    facts = {f"{name} {key}": value for name, one in zip(names, found, strict=True) for key, value in one.facts.items()}
    return Checked(panels, facts)


def check(recipe: Recipe) -> Checked:
    """Look at the data, encode examples, time two steps on a copy that is thrown away. Raises what a run would
    raise.
    """
    recipe = prepare.settle(recipe)
    splits = load_data(recipe.data, recipe.task.columns())
    prepare.check_fit(recipe, splits)
    prepare.learn(recipe, splits)
    prepared = prepare.prepare(recipe, splits)
    sample = examples.sample(prepared)
    trains, every = surgery.count(prepared.backbone.model)
    facts = {
        "trained_parameters": trains,
        "total_parameters": every,
        "examples": len(prepared.batches.rows),
        "sampled": len(sample.examples),
        "cut": sample.cut,
        **_lengths(prepared, sample),
        "updates": prepared.training.total_steps,
        **_timed(prepared),
    }
    return Checked([*splits.panels, *sample.panels()], facts)


def _lengths(prepared: prepare.Prepared, sample: examples.Sample) -> dict[str, float]:
    if prepared.recipe.task.reads == "images":  # which have no tokens
        return {}
    return {"tokens_median": float(np.median(sample.sizes)), "tokens_longest": int(sample.sizes.max())}


def _timed(prepared: prepare.Prepared) -> dict[str, float]:
    """Train three updates on the throw-away model; the whole run's time and memory follow from the last two."""
    stopwatch = Stopwatch()
    total = prepared.training.total_steps
    prepared.training.total_steps = TIMED + 1
    parts = [*prepared.recipe.parts, stopwatch]
    quiet = prepared.recipe.train.model_copy(update={"evaluate_every": None, "checkpoint_every": 10**9})
    with tempfile.TemporaryDirectory() as folder:
        outside = loop.Outside(Path(folder), Log(Path(folder) / "metrics.jsonl"), dict, lambda: False)
        loop.train(prepared.training, parts, prepared.batches, quiet, prepared.accelerator, outside)
    return {
        "seconds_a_step": stopwatch.seconds,
        "estimated_seconds": stopwatch.seconds * total,
        "estimated_peak_memory_bytes": account.peak_memory(),
    }
