"""Baselines beside the trained model: scores, paired differences, and what each of them cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunesmith.core.panel import Cell, Figure, Table, Verdict
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats, verdicts
from tunesmith.evaluate.baselines_ground import Ground, Missing, Told
from tunesmith.evaluate.stats import Span
from tunesmith.train.log import lines

METRICS = "metrics.jsonl"
MODEL = "model"
DIFFERENCE = "model minus this"


@dataclass(frozen=True)
class Score:
    """A value with its interval."""

    value: float
    span: Span


@dataclass(frozen=True)
class Compared:
    """A baseline's score on its rows, the model's on the same ones, the difference of the two and its p. spread: the
    standard deviation of the scores of its several answers, None where it has one.
    """

    told: Told
    own: Score
    model: Score
    difference: Score
    p: float
    spread: float | None


def compared(ground: Ground, several: Sequence[Told]) -> list[Compared]:
    """Every baseline beside the model, in the same order.

    d = m(model) - m(baseline) on the same rows, drawn together: its interval is that of the bootstrap, p = 2 min(share
    of draws with d <= 0, share with d >= 0), at most 1, with one draw more counted on the side of chance (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 15). Baselines on the same rows have the same draws.
    """
    found: dict[int, Compared] = {}
    waiting = dict(enumerate(several))
    while waiting:
        first = next(iter(waiting.values()))
        group = {n: told for n, told in waiting.items() if np.array_equal(told.places, first.places)}
        waiting = {n: told for n, told in waiting.items() if n not in group}
        found |= _on_the_same_rows(ground, group)
    return [found[number] for number in range(len(several))]


def _on_the_same_rows(ground: Ground, group: Mapping[int, Told]) -> dict[int, Compared]:
    task = ground.finished.task
    places = next(iter(group.values())).places
    truths = ground.truths("held out")[places]
    known = {MODEL: [ground.finished.predict(ground.split).answers[places]]}
    known |= {str(number): list(told.answers) for number, told in group.items()}

    def one(chosen: np.ndarray | slice, answers: np.ndarray) -> float:
        return task.metrics(truths[chosen], answers[chosen])[task.metric]

    def measure(chosen: np.ndarray | slice) -> dict[str, float]:
        return {name: float(np.mean([one(chosen, some) for some in answers])) for name, answers in known.items()}

    draws = stats.resampled(measure, seed_of(ground.finished.seed, "bootstrap"), len(truths))
    values = measure(slice(None))
    model = Score(values[MODEL], stats.interval(draws[MODEL]))
    found = {}
    for number, told in group.items():
        name = str(number)
        apart = draws[MODEL] - draws[name]
        spread = float(np.std([one(slice(None), some) for some in told.answers])) if len(told.answers) > 1 else None
        difference = Score(values[MODEL] - values[name], stats.interval(apart))
        own = Score(values[name], stats.interval(draws[name]))
        found[number] = Compared(told, own, model, difference, chance(apart), spread)
    return found


def chance(differences: np.ndarray) -> float:
    """p of the draws of a difference [draws]; NaN where it is defined on none."""
    defined = differences[np.isfinite(differences)]
    if not len(defined):
        return math.nan
    fewer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(defined) + 1))


def figures(ground: Ground, several: Sequence[Compared]) -> list[Figure]:
    """The scores and differences of all baselines; values that are undefined are left out."""
    metric, found = ground.finished.task.metric, []
    for one in several:
        values = {metric: one.own.value, DIFFERENCE: one.difference.value, "p": one.p}
        spans = {metric: one.own.span, DIFFERENCE: one.difference.span}
        found += stats.figures(values, spans, ground.split, one.told.name)
    return found


def verdict(ground: Ground, several: Sequence[Compared]) -> Verdict | None:
    """Whether the model is better than the strongest of them; None where no difference is defined."""
    task = ground.finished.task
    sign = 1 if task.higher_is_better else -1
    known = [one for one in several if math.isfinite(one.difference.value)]
    if not known:
        return None
    best = min(known, key=lambda one: sign * one.difference.value)
    ahead = verdicts.Estimate(sign * best.difference.value, *sorted(sign * bound for bound in best.difference.span))
    return verdicts.worth(task.metric, best.told.name, ahead, len(best.told.places), ground.split)


def table(
    ground: Ground, several: Sequence[Compared], missing: Sequence[Missing], seconds: Mapping[str, float], model: Score
) -> Table:
    """One row for the model, for each baseline, and for each that could not be measured."""
    metric, count = ground.finished.task.metric, len(ground.rows("held out"))
    rows: list[list[Cell]] = [["this model", *_told(model), None, None, None, *_training(ground), count, "trained"]]
    for one in several:
        told, difference = one.told, _told(one.difference)
        rows.append(
            [told.name, *_told(one.own), *difference, _known(one.p), seconds.get(told.name), told.trained, told.used,
             len(told.places), _remark(one, count)]
        )  # fmt: skip
    rows += [[one.name, *[None] * 9, f"not measured: {one.why}"] for one in missing]
    return Table(
        "What was there without this training",
        ["what", metric, "interval", DIFFERENCE, "its interval", "p", "seconds", "parameters trained",
         "training rows used", "rows answered", "how"],
        rows,
        _note(verdict(ground, several)),
    )  # fmt: skip


def measured(ground: Ground) -> Score:
    """The model's own score on all held-out rows."""
    task, truths = ground.finished.task, ground.truths("held out")
    answers = ground.finished.predict(ground.split).answers
    spans = stats.bootstrap(task.metrics, truths, answers, seed_of(ground.finished.seed, "bootstrap"))
    return Score(task.metrics(truths, answers)[task.metric], spans[task.metric])


def _remark(one: Compared, count: int) -> str:
    told = one.told.remark
    if one.spread is not None:
        told += f"; mean over {len(one.told.answers)} orders of the examples, standard deviation {one.spread:.3f}"
    if len(one.told.places) < count:
        told += f"; on {len(one.told.places):,} of {count:,} rows, drawn, on which the model has {one.model.value:.3f}"
    if not math.isfinite(one.own.value):
        told += "; the metric is not defined for these answers"
    return told


def _note(verdict: Verdict | None) -> str:
    rule = (
        "Differences are on the same rows, their intervals and p by drawing these rows again; each p is that of one "
        "comparison, not corrected for their number. Seconds are without loading a model; those of a "
        "training are of its updates."
    )
    return rule if verdict is None else f"{verdict.said} {rule}"


def _training(ground: Ground) -> list[Cell]:
    """Seconds of the training's updates, parameters trained, training rows; None where it is not known."""
    path = None if ground.finished.folder is None else Path(ground.finished.folder) / METRICS
    record = lines(path) if path is not None and path.is_file() else []
    seconds = [line["seconds"] for line in record if line.get("event") == "step"]
    trained = next((line["trained_parameters"] for line in record if "trained_parameters" in line), None)
    rows = ground.finished.train()
    return [sum(seconds) if seconds else None, trained, None if rows is None else len(rows)]


def _told(score: Score) -> list[Cell]:
    low, high = score.span
    return [_known(score.value), f"{low:.3f} to {high:.3f}" if math.isfinite(low) else None]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
