"""What a run would do, without doing it: what the model will see, what would train, how long and how much memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil

from tunesmith import examples, prepare
from tunesmith.core import surgery
from tunesmith.core.notes import silent
from tunesmith.core.panel import Panel, Result
from tunesmith.data.load import Splits
from tunesmith.data.load import load as load_data
from tunesmith.estimate import estimate
from tunesmith.recipe import Recipe
from tunesmith.report.wording import duration, size

READING = 1.0
"""Seconds of a first reading of the rows from which on it is told apart from later ones."""


@dataclass(frozen=True)
class Checked:
    """What was seen."""

    panels: list[Panel]
    facts: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**Result([], self.panels).as_json(), **self.facts}

    def told(self) -> str:
        """What the whole run takes, in a line."""
        seconds, memory = duration(self.facts["estimated_seconds"]), size(self.facts["estimated_peak_memory_bytes"])
        return f"The whole run, from the command to the report, takes about {seconds} and {memory} of memory."


def process_began() -> float:
    """When this process began, as `time.time` tells it."""
    return psutil.Process().create_time()


def check_all(stages: Sequence[Recipe], began: float | None = None) -> Checked:
    """Look at every stage of a recipe, each as if it started from the recipe's own backbone.

    began: when the command was given, as `time.time` tells it; now, where not given.
    """
    found = [check(stage, None if number else began) for number, stage in enumerate(stages)]
    if len(found) == 1:
        return found[0]
    names = [f"{number}-{stage.task.word()}" for number, stage in enumerate(stages, 1)]
    panels = [
        replace(panel, title=f"{name}: {panel.title}")
        for name, one in zip(names, found, strict=True)
        for panel in one.panels
    ]
    facts = {f"{name} {key}": value for name, one in zip(names, found, strict=True) for key, value in one.facts.items()}
    whole = {
        "estimated_seconds": sum(one.facts["estimated_seconds"] for one in found),
        "estimated_peak_memory_bytes": max(one.facts["estimated_peak_memory_bytes"] for one in found),
    }
    return Checked(panels, {**facts, **whole})


def check(recipe: Recipe, began: float | None = None) -> Checked:
    """Look at the data, encode examples, and run a miniature of the whole on a copy that is thrown away. Raises what a
    run would raise.
    """
    began = time.time() if began is None else began
    recipe = prepare.settle(recipe)
    splits, saved = _read(recipe)
    prepare.check_fit(recipe, splits)
    prepare.learn(recipe, splits)
    prepared = prepare.prepare(recipe, splits)
    started = time.time() - began - saved
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
    }
    mix = prepared.batches.mix
    panels = [*splits.panels, *([] if mix is None else [mix.panel()]), *sample.panels()]
    return Checked(panels, {**facts, **estimate(prepared, splits, sample.examples, started).facts()})


def _read(recipe: Recipe) -> tuple[Splits, float]:
    """The rows, and the seconds that a run after this one saves because they are read already."""
    began = time.perf_counter()
    splits = load_data(recipe.data, recipe.task.columns())
    first = time.perf_counter() - began
    if first < READING:
        return splits, 0.0
    with silent():
        load_data(recipe.data, recipe.task.columns())
    # Both were spent here: the run reads once, as fast as the second time.
    return splits, first


def _lengths(prepared: prepare.Prepared, sample: examples.Sample) -> dict[str, float]:
    if prepared.recipe.task.reads == "images":  # which have no tokens
        return {}
    return {"tokens_median": float(np.median(sample.sizes)), "tokens_longest": int(sample.sizes.max())}
