"""Stability: the same recipe over several seeds, and what known remedies do to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from tunesmith.core import anatomy, part
from tunesmith.core.finished import Again, Asked, Finished
from tunesmith.core.notes import note
from tunesmith.core.panel import Cell, Figure, Lines, Panel, Points, Result, Table
from tunesmith.core.rows import each
from tunesmith.evaluate import seeds as over
from tunesmith.evaluate import stats
from tunesmith.evaluate.subjects import answers_of
from tunesmith.evaluate.unmeasured import unmeasured

AS_IT_IS = "as it is"
LONGER = 3
"""How many times as long the remedy `longer` trains."""
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """One training. values: its main metric by split; empty where it diverged, `why`."""

    seed: int
    values: Mapping[str, float]
    why: str = ""


class Stability(part.Suite):
    """How much the main metric depends on the seed: the recipe is trained again and again, the run being the first.

    Formula: mean m, its interval m -+ t s / sqrt(n); a training failed when it diverged or its metric on the split that
    judges is no better than a constant answer's; the share of failed ones with Clopper and Pearson's interval.
    E[best of k] = sum_i v_i ((i / n)^k - ((i - 1) / n)^k), on the validation split.
    Symbols: n trainings; s their standard deviation over n - 1; t Student's 97.5th percentile; v_1 <= ... <= v_n.
    Shapes: figures and panels.
    Paper: Mosbach, Andriushchenko, Klakow, "On the Stability of Fine-tuning BERT", 2021, for failed runs and `longer`;
    Zhang et al., "Revisiting Few-sample BERT Fine-tuning", 2021, for `reinitialise`; Dodge et al., "Fine-Tuning
    Pretrained Language Models", 2020, for initialisation and order apart, and the expected best. Where a task has no
    constant answer, the model before training stands in for it.
    """

    asks: ClassVar[str] = "How much does the result depend on the seed?"
    defines: ClassVar[Mapping[str, str]] = {
        "mean_*": "The mean over trainings that have the metric. Its interval knows of other seeds, not of other rows.",
        "standard_deviation": "How far the metric of one training lies from their mean, over n - 1.",
        "lowest": "The lowest value of the main metric among the trainings.",
        "highest": "The highest value of the main metric among the trainings.",
        "failed": "The share of trainings that diverged, or were no better than an answer that looks at no input.",
        "p_of_equal_spread": "Levene's p that both vary equally; small where the remedy changed how much.",
    }

    seeds: int = Field(5, ge=2)
    """How many trainings in all; the run itself is the first of them."""
    vary: Literal["both", "initialisation", "order"] = "both"
    """What differs: every random number; the new weights and dropout alone; or the order of the rows alone."""
    help: list[Literal["longer", "reinitialise"]] = Field(default_factory=list)
    """Remedies, each trained with as many seeds: three times as long; the top quarter of the blocks started anew."""

    def measure(self, finished: Finished) -> Result:
        """Figures over seeds on every held-out split; why there are none, where the recipe can't be trained again."""
        judge, again = finished.held_out(), finished.again
        if judge is None:
            return Result(panels=[unmeasured("Stability", "no rows are held out")])
        if again is None:
            return Result(panels=[unmeasured("Stability", "the training rows are not at hand")])
        result = Result()
        ways: dict[str, list[Trained]] = {}
        for name, changes in self._ways(finished, result.panels).items():
            found = self._trained(finished, again, name, changes)
            if isinstance(found, str):
                result.panels.append(unmeasured(f"Stability, {name}", found))
            else:
                ways[name] = found
        base = _baseline(finished, judge)
        for name, runs in ways.items():
            for split in finished.splits:
                result.figures.extend(_figures(finished, runs, split, name))
            result.figures.append(_failures(finished, runs, judge, base, name))
            if name != AS_IT_IS and AS_IT_IS in ways:
                result.figures.extend(_gain(finished, runs, ways[AS_IT_IS], judge, name))
        result.panels.extend(_panels(finished, ways, judge, base))
        return result

    def _ways(self, finished: Finished, panels: list[Panel]) -> dict[str, Changes]:
        """The recipe as it is, and with each remedy that it can have: what is changed."""
        found: dict[str, Changes] = {AS_IT_IS: {}}
        for name in dict.fromkeys(self.help):
            changes, why = _longer(finished) if name == "longer" else _reinitialised(finished)
            if why:
                panels.append(unmeasured(f"Stability, {name}", why))
            else:
                found[name] = changes
        return found

    def _trained(self, finished: Finished, again: Again, name: str, changes: Changes) -> list[Trained] | str:
        """A training for each seed; a text, why, where the recipe can't be changed so."""
        train, order = finished.recipe["train"]["seed"], finished.recipe["data"]["order_seed"]
        first = train if self.vary != "order" or order is None else order
        runs: list[Trained] = []
        for seed in range(first, first + self.seeds):
            if name == AS_IT_IS and seed == first:
                runs.append(Trained(seed, _values(finished, finished.now)))
                continue
            folder = "-".join([*([] if name == AS_IT_IS else [name]), *_words(self.vary), str(seed)])
            note(f"Stability: training {len(runs) + 1} of {self.seeds}, {name}.")
            found = again(folder, _over(changes, _seeded(self.vary, seed, train if order is None else order)))
            if found.now is None and not found.diverged:
                return found.failed
            runs.append(Trained(seed, {} if found.now is None else _values(finished, found.now), found.failed))
        return runs


def _words(vary: str) -> list[str]:
    return ["seed"] if vary == "both" else [vary]


def _seeded(vary: str, seed: int, order: int) -> Changes:
    """What is changed for a seed; `order`: the run's own seed of the order of rows."""
    if vary == "order":
        return {"data": {"order_seed": seed}}
    return {"train": {"seed": seed}, "data": {"order_seed": order if vary == "initialisation" else None}}


def _over(changes: Changes, more: Changes) -> Changes:
    return {key: {**changes.get(key, {}), **more.get(key, {})} for key in dict.fromkeys([*changes, *more])}


def _longer(finished: Finished) -> tuple[Changes, str]:
    train = finished.recipe["train"]
    length = "epochs" if train["steps"] is None else "steps"
    return {"train": {length: LONGER * train[length]}}, ""


def _reinitialised(finished: Finished) -> tuple[Changes, str]:
    method = finished.recipe["method"]
    if "reinit" not in method:
        return {}, f"method '{method['name']}' starts no block anew"
    if method["reinit"]:
        return {}, f"the recipe starts {method['reinit']} blocks anew already"
    blocks = list(anatomy.stacks(anatomy.backbone(finished.now.model)).values())
    if not blocks:
        return {}, "the model has no list of blocks"
    return {"method": {"reinit": max(1, len(blocks[-1]) // 4)}}, ""


def _values(finished: Finished, asked: Asked) -> dict[str, float]:
    """The main metric of a model on every held-out split."""
    task, found = asked.task, {}
    for split, rows in finished.splits.items():
        found[split] = task.metrics(task.truths(each(rows)), asked.predict(rows).answers)[task.metric]
    return found


def _baseline(finished: Finished, judge: str) -> tuple[str, float]:
    """What a training has to beat: the constant answer, or where there is none the model before training; its name."""
    task = finished.task
    truths = task.truths(each(finished.splits[judge]))
    known = task.constant()
    if known is None:
        answers = finished.untrained(judge).answers
        return task.untrained, task.metrics(truths, answers)[task.metric]
    answers = answers_of(task, truths, truths, truths)[known[0]]
    return known[0], task.metrics(truths, answers)[task.metric]


def _at(runs: Sequence[Trained], split: str) -> list[float]:
    """The metric of the runs that have one on a split."""
    return [one.values[split] for one in runs if math.isfinite(one.values.get(split, math.nan))]


def _subject(runs: Sequence[Trained], name: str) -> str:
    return f"{len(runs)} seeds, {name}"


def _figures(finished: Finished, runs: Sequence[Trained], split: str, name: str) -> list[Figure]:
    values, metric = _at(runs, split), finished.task.metric
    if not values:
        return []
    told = {
        f"mean_{metric}": float(np.mean(values)),
        "standard_deviation": over.deviation(values),
        "lowest": min(values),
        "highest": max(values),
    }
    return stats.figures(told, {f"mean_{metric}": over.mean_interval(values)}, split, _subject(runs, name))


def _is_failed(finished: Finished, one: Trained, judge: str, base: tuple[str, float]) -> bool:
    better = finished.task.higher_is_better
    return over.is_failed(one.values.get(judge, math.nan), base[1], higher_is_better=better)


def _failures(finished: Finished, runs: Sequence[Trained], judge: str, base: tuple[str, float], name: str) -> Figure:
    count = sum(_is_failed(finished, one, judge, base) for one in runs)
    low, high = over.share_interval(count, len(runs))
    return Figure("failed", count / len(runs), judge, _subject(runs, name), low, high)


def _gain(finished: Finished, runs: Sequence[Trained], plain: Sequence[Trained], judge: str, name: str) -> list[Figure]:
    """The mean difference to the recipe as it is, seed by seed; and Levene's p that both vary equally."""
    pairs = [(one.values[judge], other.values[judge]) for one, other in zip(runs, plain, strict=True)
             if judge in one.values and judge in other.values]  # fmt: skip
    gains = [one - other for one, other in pairs if math.isfinite(one - other)]
    if not gains:
        return []
    told = {
        f"mean_{finished.task.metric}": float(np.mean(gains)),
        "p_of_equal_spread": over.same_spread(_at(runs, judge), _at(plain, judge)),
    }
    subject = f"{name}, difference to {AS_IT_IS}"
    return stats.figures(told, {f"mean_{finished.task.metric}": over.mean_interval(gains)}, judge, subject)


def _panels(
    finished: Finished, ways: Mapping[str, Sequence[Trained]], judge: str, base: tuple[str, float]
) -> list[Panel]:
    metric, splits = finished.task.metric, list(finished.splits)
    rows: list[list[Cell]] = []
    failed: dict[str, int] = dict.fromkeys(ways, 0)
    for name, runs in ways.items():
        for one in runs:
            bad = _is_failed(finished, one, judge, base)
            failed[name] += bad
            told = "" if not bad else f"diverged: {one.why}" if one.why else f"no better than {base[0]}"
            rows.append([name, one.seed, *[one.values.get(split) for split in splits], told])
    counted = "; ".join(f"{name} {failed[name]} of {len(runs)}" for name, runs in ways.items())
    told = f"Failed: {counted}. To beat: {base[0]}, {base[1]:.4g} on {judge}."
    columns = ["training", "seed", *[f"{metric} on {split}" for split in splits], "failed"]
    panels: list[Panel] = [Table(f"{metric} by seed", columns, rows, told)]
    if {"validation", "test"} <= set(splits):
        panels.append(_points(ways, metric))
    if "validation" in splits:
        better = finished.task.higher_is_better
        curves = {name: over.expected_best(values, higher_is_better=better)
                  for name, runs in ways.items() if (values := _at(runs, "validation"))}  # fmt: skip
        series = {name: (list(range(1, len(best) + 1)), best) for name, best in curves.items()}
        panels.append(
            Lines(
                "Expected best on validation", series, x="trainings, the best of which is kept", y=metric,
                note="By drawing from the trainings at hand: an estimate that is low for as many as there are.",
            )
        )  # fmt: skip
    return panels


def _points(ways: Mapping[str, Sequence[Trained]], metric: str) -> Points:
    whole = [(one.values["validation"], one.values["test"], f"{name} {one.seed}")
             for name, runs in ways.items() for one in runs if one.values]  # fmt: skip
    kept = sorted(one for one in whole if np.isfinite(one[:2]).all())
    told = "; ".join(name for _, _, name in kept)
    return Points(
        "Seeds on both splits", [x for x, _, _ in kept], [y for _, y, _ in kept], x=f"{metric} on validation",
        y=f"{metric} on test", note=f"From left to right: {told}.", diagonal=True,
    )  # fmt: skip
