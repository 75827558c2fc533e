"""Out of distribution: what the model is worth on rows that its training was not like."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, field_validator, model_validator
from torch import nn

from tunesmith.core import part
from tunesmith.core.finished import Finished
from tunesmith.core.notes import note
from tunesmith.core.panel import Figure, Lines, Points, Result
from tunesmith.core.rows import Chosen, Rows, each
from tunesmith.core.seeding import seed_of
from tunesmith.core.world import World
from tunesmith.evaluate import detection, other_rows, shift, stats, verdicts
from tunesmith.evaluate.shift import Answered, Measured
from tunesmith.evaluate.subjects import answers_of
from tunesmith.evaluate.unmeasured import unmeasured
from tunesmith.evaluate.verdicts import Estimate

FITTED = 10_000
"""Most training rows from which the distances of classes are learned."""
CHUNK = 4096
"""Rows whose features are held at once."""
DRAWN = 200
OUTSIDE = "outside"
SPLITS = ("train", "validation", "test", OUTSIDE)
Score = Callable[[Rows], np.ndarray]


class Ood(part.Suite):
    """The task's metrics on rows unlike the training's, beside those on the test split; and whether rows of no class
    are noticed.

    Formula: difference = m(other rows) - m(test rows), its interval from bootstraps of both, drawn independently.
    Scores of a row, higher where it looks like the task's own: max_k p_k; log sum_k exp z_k; -min_c (f - m_c)' S^-1
    (f - m_c). AUROC: how often an own row scores higher than an outside one. FPR at 95: the share of outside rows
    accepted where 95 % of the own are.
    Symbols: m a metric; z scores of classes, p = softmax(z); f what the backbone makes of a row, m_c its mean over the
    training rows of class c, S the covariance that all classes share. Shapes: z [rows, classes], f [rows, hidden];
    figures and panels.
    Paper: Miller et al., "Accuracy on the Line", 2021, for the chart; Hendrycks, Gimpel, "A Baseline for Detecting
    Misclassified and Out-of-Distribution Examples", 2017; Liu et al., "Energy-based Out-of-distribution Detection",
    2020; Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018, of which we take the
    last layer, with a shrunk covariance. Quarters by length are compared with the other rows of the split.
    """

    asks: ClassVar[str] = "What is the model worth on rows that its training was not like?"
    defines: ClassVar[Mapping[str, str]] = {
        "auroc": "How often a row of the split scores higher than one of no class, ties counting half. 0.5 is blind, 1 "
        "tells all apart.",
        "fpr_at_95": "The share of rows of no class that pass where 95 % of the split's own rows do. Lower is better.",
    }

    data: dict[str, str] = Field(default_factory=dict)
    """Labelled files of other rows, each under a name of its own: {another_shop: rows.csv}."""
    groups: str | None = None
    """A column of these files by whose values the main metric is told too."""
    length: bool = True
    """Whether the main metric is told for every quarter of the test split, the shortest texts first."""
    outside: str | None = None
    """A file of rows that belong to no class; its labels are not read."""

    @field_validator("data")
    @classmethod
    def _free(cls, value: dict[str, str]) -> dict[str, str]:
        taken = [name for name in value if name in SPLITS]
        if taken:
            raise ValueError(f"calls a file '{taken[0]}', as a split is called: give it another name")
        return value

    @model_validator(mode="after")
    def _measures(self) -> Self:
        if self.groups is not None and not self.data:
            raise ValueError("'groups' names a column of the files in `data`, and there are none")
        if not (self.data or self.length or self.outside):
            raise ValueError("measures nothing: give it `data`, `outside`, or `length: true`")
        return self

    def check(self, model: nn.Module, world: World) -> None:
        """Read every file before the training: DataError with what is wrong with the first bad one."""
        for path in self.data.values():
            task = world.read(path).task
            other_rows.truths_of(task, other_rows.labelled(task, path), path)
            if self.groups is not None:
                other_rows.groups_of(path, self.groups)
        if self.outside is not None:
            other_rows.unlabelled(world.read(self.outside).task, self.outside)

    def measure(self, finished: Finished) -> Result:
        """Figures of every file, its groups, the quarters by length, and of what is outside."""
        split = finished.held_out()
        result = Result()
        if split is None:
            result.panels.append(unmeasured("Out of distribution", "no rows are held out to compare with"))
            return result
        rows = finished.splits[split]
        own = Answered(split, finished.task.truths(each(rows)), finished.predict(split).answers)
        if self.data:
            self._files(finished, own, result)
        if self.length:
            _by_length(finished, own, result)
        if self.outside is not None:
            _outside(finished, split, self.outside, result)
        return result

    def _files(self, finished: Finished, own: Answered, result: Result) -> None:
        task, seed = finished.task, finished.seed
        home = shift.measured(task, own.truths, own.answers, seed, own.name)
        untrained = finished.untrained(own.name).answers if finished.starts else None
        known = answers_of(task, own.truths, own.answers, untrained)
        at_home = {subject: task.metrics(own.truths, answers)[task.metric] for subject, answers in known.items()}
        points: dict[str, tuple[float, float]] = {}
        losses: dict[str, Estimate] = {}
        for name, path in self.data.items():
            rows = finished.read(Path(path))
            found = finished.now.predict(rows)
            if found.cut:
                note(f"{found.cut:,} of {len(rows):,} rows of {name} are longer than the limit and were cut.")
            there = Answered(name, other_rows.truths_of(task, rows, path), found.answers)
            before = finished.before().predict(rows).answers if finished.starts else None
            for subject, answers in answers_of(task, there.truths, there.answers, before).items():
                values = shift.measured(task, there.truths, answers, seed, name)
                result.figures.extend(values.figures(name, subject))
                points[f"{subject} on {name}"] = at_home[subject], values.values[task.metric]
                if subject == "model":
                    result.figures.extend(values.minus(home).figures(name, f"difference to {own.name}"))
                    losses[name] = verdicts.lost(home, values, task.metric, task.higher_is_better)
            if self.groups is not None:
                _by_group(finished, there, other_rows.groups_of(path, self.groups), (own.name, home), result)
        result.panels.append(_line(points, own.name, task.metric))
        # Of a loss that has no interval nothing is known: it stands last.
        worst = max(losses, key=lambda name: losses[name].low if losses[name].known else -math.inf)
        result.verdicts.append(verdicts.carries_over(task.metric, own.name, worst, losses[worst]))


def _line(points: dict[str, tuple[float, float]], split: str, metric: str) -> Points:
    kept = sorted((found, name) for name, found in points.items() if np.isfinite(found).all())
    told = "; ".join(name for _, name in kept)
    return Points(
        "In and out of distribution", [x for (x, _), _ in kept], [y for (_, y), _ in kept],
        x=f"{metric} on {split}", y=f"{metric} on other rows", note=f"From left to right: {told}.", diagonal=True,
    )  # fmt: skip


def _by_group(
    finished: Finished, rows: Answered, groups: np.ndarray, base: tuple[str, Measured], result: Result
) -> None:
    names, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shown = np.argsort(-counts, kind="stable")[: shift.GROUPS]
    if len(shown) < len(names):
        note(f"Only the {len(shown)} largest of the {len(names):,} groups of {rows.name} are shown.")
    places = np.full(len(names), -1)
    places[shown] = np.arange(len(shown))
    figures, bars = shift.by_group(
        finished.task, rows, [str(names[place]) for place in shown], places[numbers], finished.seed, base
    )
    result.figures.extend(figures)
    result.panels.append(bars)


def _by_length(finished: Finished, own: Answered, result: Result) -> None:
    found = other_rows.lengths(finished.task, finished.splits[own.name])
    if found is None:
        return
    quarters = np.searchsorted(np.quantile(found, [0.25, 0.5, 0.75]), found)  # [rows]
    places, numbers = np.unique(quarters, return_inverse=True)
    if len(places) < 2:
        note(f"The texts of the {own.name} split are of one length: there are no shorter and longer ones to compare.")
        return
    names = [f"{found[quarters == one].min():,} to {found[quarters == one].max():,} characters" for one in places]
    figures, bars = shift.by_group(finished.task, own, names, numbers, finished.seed, None)
    result.figures.extend(figures)
    result.panels.append(bars)


def _outside(finished: Finished, split: str, path: str, result: Result) -> None:
    """How well three scores tell the rows of a file from those of the split."""
    inside, outside = finished.splits[split], other_rows.unlabelled(finished.task, path)
    scores = finished.now.scores(inside), finished.now.scores(outside)
    if scores[0] is None or scores[1] is None:
        why = f"the task '{finished.task.word()}', as it is set, has no scores of classes"
        result.panels.append(unmeasured("Rows of no class", why))
        return
    pairs = {
        "maximum probability": (detection.probabilities(scores[0]), detection.probabilities(scores[1])),
        "energy": (detection.energies(scores[0]), detection.energies(scores[1])),
    }
    nearness = _nearness(finished)
    if nearness is None:
        result.panels.append(unmeasured("Distance to the classes", "the training rows are not at hand"))
    else:
        pairs["distance to the classes"] = nearness(inside), nearness(outside)
    curves = {}
    for name, (own, other) in pairs.items():
        ranks = detection.ranked(own, other)
        result.figures.extend(_separation(ranks, name, seed_of(finished.seed, f"bootstrap {OUTSIDE}")))
        curves[name] = _roc(ranks)
    result.panels.append(
        Lines(
            "Rows of no class, accepted or not", curves, x="share of outside rows accepted",
            y=f"share of {split} rows accepted", note=f"{len(outside):,} rows of no class.",
        )
    )  # fmt: skip


def _separation(ranks: detection.Ranked, subject: str, seed: int) -> list[Figure]:
    def again(own: np.ndarray, other: np.ndarray) -> dict[str, float]:
        return detection.separation(detection.Ranked(ranks.inside[own], ranks.outside[other], ranks.levels))

    draws = stats.resampled(again, seed, len(ranks.inside), len(ranks.outside))
    spans = {name: stats.interval(some) for name, some in draws.items()}
    return stats.figures(detection.separation(ranks), spans, OUTSIDE, subject)


def _roc(ranks: detection.Ranked) -> tuple[list[float], list[float]]:
    inside, outside = (detection.accepted(one, ranks.levels) / len(one) for one in (ranks.inside, ranks.outside))
    places = np.unique(np.linspace(0, ranks.levels - 1, DRAWN).astype(int))
    return [0.0, *outside[places].tolist()], [0.0, *inside[places].tolist()]


def _nearness(finished: Finished) -> Score | None:
    """How near rows are to the nearest class of the training split; None where its rows are not at hand."""
    train = finished.train()
    if train is None:
        return None
    if len(train) > FITTED:
        draw = np.random.default_rng(seed_of(finished.seed, "ood"))
        note(f"Distances to the classes are learned from {FITTED:,} of {len(train):,} training rows.")
        train = Chosen(train, np.sort(draw.choice(len(train), FITTED, replace=False)).tolist())
    found = detection.clouds(finished.now.features(train), finished.task.truths(each(train)))

    def of(rows: Rows) -> np.ndarray:
        starts = range(0, len(rows), CHUNK)
        chunks = [Chosen(rows, range(start, min(start + CHUNK, len(rows)))) for start in starts]
        return np.concatenate([found.nearness(finished.now.features(chunk)) for chunk in chunks])

    return of
