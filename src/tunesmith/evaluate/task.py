"""The suite that every run has: the task's metrics, with intervals, beside what needs no training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import nn

from tunesmith.core import part
from tunesmith.core.column import Row
from tunesmith.core.finished import Finished
from tunesmith.core.panel import Cell, Figure, Panel, Result, Table, Verdict
from tunesmith.core.rows import Chosen, each
from tunesmith.core.seeding import seed_of
from tunesmith.core.world import World
from tunesmith.evaluate import learning_curve, sliced, slices, stats, verdicts
from tunesmith.evaluate.shift import Measured
from tunesmith.evaluate.subjects import answers_of
from tunesmith.evaluate.verdicts import Estimate

SHOWN_MISTAKES = 30
UNSHOWN = ("scores", "candidates")


MODEL = "model"


class Task(part.Suite):
    """The task's metrics on every held-out split, with bootstrap intervals, beside two baselines.

    Baselines: the best constant answer, where there is one (for classes: the most frequent one of the training split),
    and the same model before training, whose head is random where the backbone brings none. The model's metrics on some
    training rows stand beside them. Then, for the test split, where the answers are right and wrong, and the worst
    mistakes. Verdicts: whether the model is better than the best baseline, on the same draws of rows; and what share of
    the metric on training rows is lost on others. Asked for: the main metric of slices of that split, and which are
    worse than the rest beyond chance; and of models trained on shares of the rows.
    Shapes: figures and panels. Paper: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979, for the
    intervals.
    """

    asks: ClassVar[str] = "How good are the answers, and are they better than what needs no training?"
    defines: ClassVar[Mapping[str, str]] = {
        learning_curve.TWICE: "What twice the training rows would add to the main metric, if the line through the last "
        "two points of the learning curve goes on over the logarithm of rows.",
    }

    train_rows: int = Field(500, ge=0)
    """Most training rows that are answered too, no more than are held out; 0 leaves that out."""
    slices: list[str] = Field(default_factory=list)
    """Columns of the held-out file: the main metric for each of their values, beside that of the other rows."""
    by_class: bool = False
    """Whether it is told for the rows of each true class."""
    by_length: bool = False
    """Whether it is told for each quarter of the rows, the shortest texts first."""
    by_confidence: bool = False
    """Whether it is told for each quarter of the rows, the least sure answers first."""
    learning_curve: list[Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=list)
    """Shares of the training rows on each of which the recipe is trained again; 1 is the run itself."""

    def check(self, model: nn.Module, world: World) -> None:
        """Look for the columns of `slices` before the training: DataError with those that are not there."""
        if self.slices and world.judged is not None:
            slices.look(world.judged, self.slices)

    def measure(self, finished: Finished) -> Result:
        """Figures of some training rows and of every held-out split; panels and verdicts of the one that judges."""
        result = Result()
        shown = finished.held_out()
        seen = self._seen(finished, len(finished.splits[shown])) if shown else {}
        result.figures.extend(_figures(seen, "train"))
        found: dict[str, Measured] = {}
        for split in ("validation", "test"):
            if split in finished.splits:
                found = self._subjects(finished, split)
                result.figures.extend(_figures(found, split))
        if shown:
            result.panels.extend(self._panels(finished, shown))
            result.verdicts.extend(_verdicts(finished, shown, found, seen))
            self._more(finished, shown, result)
        return result

    def _more(self, finished: Finished, split: str, result: Result) -> None:
        """Slices and the learning curve, where they are asked for."""
        asked = {"class": self.by_class, "length": self.by_length, "confidence": self.by_confidence}
        found = [sliced.measured(finished, split, self.slices, [by for by, wanted in asked.items() if wanted])]
        if self.learning_curve:
            found.append(learning_curve.measured(finished, split, self.learning_curve))
        for figures, panels in found:
            result.figures.extend(figures)
            result.panels.extend(panels)

    def _subjects(self, finished: Finished, split: str) -> dict[str, Measured]:
        task = finished.task
        truths = task.truths(each(finished.splits[split]))
        untrained = finished.untrained(split).answers if finished.starts else None
        subjects = answers_of(task, truths, finished.predict(split).answers, untrained)
        seed = seed_of(finished.seed, "bootstrap")
        return {name: _measured(task, truths, answers, seed) for name, answers in subjects.items()}

    def _seen(self, finished: Finished, most: int) -> dict[str, Measured]:
        """The model on training rows. Where an answer is found among all rows, fewer rows are another task."""
        most = min(most, self.train_rows)
        rows = finished.train() if most and not finished.task.couples else None
        if rows is None or not len(rows):
            return {}
        if len(rows) > most:
            draw = np.random.default_rng(seed_of(finished.seed, "training rows"))
            rows = Chosen(rows, np.sort(draw.choice(len(rows), most, replace=False)).tolist())
        truths = finished.task.truths(each(rows))
        answers = finished.now.predict(rows).answers
        return {MODEL: _measured(finished.task, truths, answers, seed_of(finished.seed, "bootstrap train"))}

    def _panels(self, finished: Finished, split: str) -> list[Panel]:
        task, rows = finished.task, finished.splits[split]
        predictions = finished.predict(split)
        truths = task.truths(each(rows))
        panels = task.panels(truths, predictions.answers)
        worst = task.mistakes(truths, predictions.answers, predictions.confidences)[:SHOWN_MISTAKES]
        if len(worst):
            panels.append(_mistakes(finished.lines(split, worst.tolist()), split))
        return panels


def _measured(task: part.Task, truths: np.ndarray, answers: np.ndarray, seed: int) -> Measured:
    draws = stats.resampled(lambda places: task.metrics(truths[places], answers[places]), seed, len(truths))
    return Measured(task.metrics(truths, answers), draws)


def _figures(found: Mapping[str, Measured], split: str) -> list[Figure]:
    return [figure for subject, one in found.items() for figure in one.figures(split, subject)]


def _verdicts(
    finished: Finished, split: str, found: Mapping[str, Measured], seen: Mapping[str, Measured]
) -> list[Verdict]:
    """Whether it learned, and whether that holds on rows that it did not see."""
    task, metric, rows = finished.task, finished.task.metric, len(finished.splits[split])
    sign = 1 if task.higher_is_better else -1
    model = found[MODEL]
    rivals = {
        name: sign * one.values[metric] for name, one in found.items()
        if name != MODEL and math.isfinite(one.values[metric])
    }  # fmt: skip
    if not rivals:
        return []
    best = max(rivals, key=rivals.__getitem__)
    rival = found[best]
    ahead = Estimate.of(
        sign * (model.values[metric] - rival.values[metric]), sign * (model.draws[metric] - rival.draws[metric])
    )
    told = [verdicts.learned(metric, best, ahead, rows, split)]
    if MODEL in seen and rows >= verdicts.FEW:
        lost = verdicts.lost(seen[MODEL], model, metric, task.higher_is_better)
        told.append(verdicts.generalises(metric, split, lost, told[0].grade == "good"))
    return told


def _mistakes(lines: Sequence[Row], split: str) -> Table:
    columns = [name for name in dict.fromkeys(key for line in lines for key in line) if name not in UNSHOWN]
    rows = [[_cell(line.get(name)) for name in columns] for line in lines]
    return Table(f"Worst mistakes on the {split} split", columns, rows)


def _cell(value: object) -> Cell:
    """Lists as their items, mappings as their values: what a reader wants to see of them."""
    if isinstance(value, list | tuple):
        return ", ".join(str(_cell(item)) for item in value)
    if isinstance(value, dict):
        return " ".join(str(_cell(item)) for item in value.values())
    return value  # type: ignore[return-value]
