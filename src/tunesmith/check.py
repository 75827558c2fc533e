"""What a run would do, without doing it: what the model will see, what would train, how long and how much memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil

from tunesmith import earlier, examples, prepare
from tunesmith.core import surgery
from tunesmith.core.notes import note, silent
from tunesmith.core.panel import Panel, Result
from tunesmith.data.load import Splits
from tunesmith.data.load import load as load_data
from tunesmith.estimate import estimate
from tunesmith.joint import Joint
from tunesmith.recipe import Recipe
from tunesmith.report.wording import duration, listing, size
from tunesmith.stages import Stages

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


def check_all(stages: Stages | Joint, began: float | None = None) -> Checked:
    """Look at every stage of a recipe, each as if it started from the recipe's own backbone, without what looks back at
    earlier stages; or at every one of several tasks, each as if it trained alone.

    began: when the command was given, as `time.time` tells it; now, where not given.
    """
    if isinstance(stages, Joint):
        every = {name: check(one, None if place else began) for place, (name, one) in enumerate(stages.tasks.items())}
        return _together(every, every.values())
    first, *later = stages
    found = [check(first, began)]
    if not later:
        return found[0]
    for number, stage in enumerate(later, 2):
        if without := earlier.looked_back(stage):
            note(f"Stage {number}: {listing(without)} look back at earlier stages, and are left out of its estimate.")
        found.append(check(earlier.beginning(stage, first.model)))
    names = [f"{number}-{stage.task.word()}" for number, stage in enumerate(stages, 1)]
    return _together(dict(zip(names, found, strict=True)), [*found, *found[1:]] if stages.alone else found)


def _together(found: Mapping[str, Checked], trained: Iterable[Checked]) -> Checked:
    """Several trainings by name as one; `trained` are those whose seconds add up."""
    panels = [replace(panel, title=f"{name}: {panel.title}") for name, one in found.items() for panel in one.panels]
    facts = {f"{name} {key}": value for name, one in found.items() for key, value in one.facts.items()}
    whole = {
        "estimated_seconds": sum(one.facts["estimated_seconds"] for one in trained),
        "estimated_peak_memory_bytes": max(one.facts["estimated_peak_memory_bytes"] for one in found.values()),
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
    before = time.perf_counter()
    prepared = prepare.prepare(recipe, splits)
    preparing = time.perf_counter() - before
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
    return Checked(panels, {**facts, **estimate(prepared, splits, sample.examples, started, preparing).facts()})


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
