"""Calibration: whether the model is right as often as it says that it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tunesmith.core import part
from tunesmith.core.finished import Finished
from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Bars, Figure, Lines, Panel, Result, Verdict
from tunesmith.core.rows import each
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import reliability, stats, temperature, verdicts
from tunesmith.evaluate.reliability import BINS, Sureness
from tunesmith.evaluate.unmeasured import unmeasured
from tunesmith.evaluate.verdicts import Estimate

COOLED = "with temperature"
CHANCE = "if confidences were right"
DRAWN = 200
"""Most points of a curve."""
Subjects = Mapping[str, Sureness]


class Calibration(part.Suite):
    """Whether the model is right as often as it says, before and after one temperature is fitted on validation rows.

    Formula: p = softmax(z / T), T = 1 and T = argmin NLL on the validation split; confidence c = max_k p_k.
    ECE = sum_b n_b / n |accuracy_b - mean c_b| over 15 bins b of equal width; adaptive ECE: of as many rows each.
    NLL = -mean log p_y. Brier = mean sum_k (p_k - [k = y])^2. AURC = 1 / n sum_k (share of wrong rows among the k
    surest). Accuracy at 80: that of the surest 80 % of the rows.
    Symbols: z scores of classes; y the true class; n rows, n_b of them in bin b. Shapes: z [rows, classes]; figures and
    panels.
    Paper: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017; adaptive bins: Nguyen,
    O'Connor, "Posterior Calibration and Exploratory Analysis for Natural Language Processing Models", 2015; AURC:
    Geifman, Uziel, El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", 2019. Rows of equal
    confidence count as their mean, whatever their order. Beside the errors stands what a perfectly calibrated model
    would have on so few rows.
    """

    asks: ClassVar[str] = "Is the model right as often as it says?"
    defines: ClassVar[Mapping[str, str]] = {
        "ece": f"Expected calibration error: the gap between mean confidence and share of right answers in each of "
        f"{BINS} bins of equal width, weighted by rows. 0 is perfect. A row's confidence is its highest probability.",
        "adaptive_ece": f"The expected calibration error over {BINS} bins that hold as many rows each.",
        "brier": "Mean squared error of the probabilities of all classes, summed: 0 is perfect, 2 is sure and wrong.",
        "nll": "Mean negative log-likelihood of the true class. Lower is better.",
        "aurc": "Area under the risk-coverage curve: the share of wrong answers among the k surest rows, averaged over "
        "all k. Lower is better.",
        "accuracy_at_*": "Accuracy of so many per cent of the rows, the surest ones.",
        "temperature": "What scores are divided by to make confidences right, fitted on validation rows. Above 1 the "
        "model was too sure.",
    }

    store: bool = False
    """Whether the temperature is kept in the run's folder: later predictions then give calibrated confidences."""

    def measure(self, finished: Finished) -> Result:
        """Figures and panels of the test split; of a task without scores of classes, why there are none."""
        split = finished.held_out()
        if split is None:
            return Result(panels=[unmeasured("Calibration", "no rows are held out")])
        scores = finished.now.scores(finished.splits[split])
        if scores is None:
            why = f"an answer of the task '{finished.task.word()}', as it is set, is no single one of a model's classes"
            return Result(panels=[unmeasured("Calibration", why)])
        truths = finished.task.truths(each(finished.splits[split]))
        subjects = {"model": reliability.sureness(scores, truths)}
        result = Result()
        heat = self._temperature(finished)
        if heat is not None:
            result.figures.append(Figure("temperature", heat, "validation", COOLED))
        if heat is not None and split == "test":
            subjects[COOLED] = reliability.sureness(scores, truths, heat)
        elif heat is not None:
            note("Calibration: there is no test split, so nothing tells what the temperature gains on other rows.")
        for subject, found in subjects.items():
            result.figures.extend(_figures(found, split, subject, seed_of(finished.seed, f"bootstrap {subject}")))
        chance = _chance(subjects["model"], split, seed_of(finished.seed, "calibration by chance"))
        result.verdicts.append(_verdict(subjects["model"], result.figures, chance))
        result.figures.extend(chance)
        result.panels.extend(_panels(subjects, split))
        return result

    def _temperature(self, finished: Finished) -> float | None:
        """Fitted on the validation split; where there is none, that which the run keeps; None where there is none."""
        rows = finished.splits.get("validation")
        if rows is None:
            if self.store and finished.train() is not None:
                warn("Calibration: no temperature is stored, because there is no validation split to fit it on.")
            kept = 1.0 if finished.folder is None else temperature.read(finished.folder)
            return kept if kept != 1 else None
        scores = finished.now.scores(rows)
        assert scores is not None
        found = temperature.fit(scores, finished.task.truths(each(rows)))
        if found is None:
            warn(
                "Calibration: the validation rows fix no temperature, as all of their answers are right, or none is "
                "better than chance; confidences stay as they are."
            )
        elif self.store and finished.folder is not None:
            temperature.write(finished.folder, found, len(rows))
            note(f"Calibration: the temperature {found:.4g} is stored; later predictions have calibrated confidences.")
        return found


def _figures(found: Sureness, split: str, subject: str, seed: int) -> list[Figure]:
    whole = reliability.values(found)
    draws = stats.resampled(lambda places: reliability.values(found.at(places)), seed, len(found))
    # Errors of bins are too large by chance, and on rows that were drawn again by as much once more.
    spans = {name: stats.interval(some, whole[name] if name.endswith("ece") else None) for name, some in draws.items()}
    return stats.figures(whole, {name: (max(0.0, low), high) for name, (low, high) in spans.items()}, split, subject)


def _chance(found: Sureness, split: str, seed: int) -> list[Figure]:
    draws = reliability.by_chance(found, seed)
    means = {name: float(errors.mean()) for name, errors in draws.items()}
    return stats.figures(means, {name: stats.interval(errors) for name, errors in draws.items()}, split, CHANCE)


def _verdict(found: Sureness, own: Sequence[Figure], chance: Sequence[Figure]) -> Verdict:
    error, by_chance = (next(one for one in figures if one.name == "ece" and one.subject != COOLED) for figures in
                        (own, chance))  # fmt: skip
    known = [math.nan if bound is None else bound for bound in (error.low, error.high, by_chance.high)]
    excess = float(found.confidences.mean() - found.right.mean())
    return verdicts.calibrated(Estimate(error.value, *known[:2]), known[2], excess)


def _panels(subjects: Subjects, split: str) -> list[Panel]:
    curves = {name: reliability.curve(found) for name, found in subjects.items()}
    counts = {
        name: np.bincount(reliability.equal_width(found.confidences), minlength=BINS).astype(float).tolist()
        for name, found in subjects.items()
    }
    return [
        Lines(
            f"Reliability on the {split} split",
            {name: (sure.tolist(), right.tolist()) for name, (sure, right) in curves.items()}
            | {"right as often as sure": ([0.0, 1.0], [0.0, 1.0])},
            x="mean confidence",
            y="share of right answers",
            note=f"{BINS} bins of equal width. Below the straight line the model is too sure.",
        ),
        Bars(
            "Rows by confidence",
            [f"{number / BINS:.2f} to {(number + 1) / BINS:.2f}" for number in range(BINS)],
            counts,
            x="confidence",
            y="rows",
        ),
        Lines(
            f"Risk and coverage on the {split} split",
            {name: _risk(found) for name, found in subjects.items()},
            x="share of rows answered, the surest first",
            y="share of wrong answers",
            note="The mean of a line is its AURC.",
        ),
    ]


def _risk(found: Sureness) -> tuple[list[float], list[float]]:
    risks = reliability.risks(reliability.tied(found))
    places = np.unique(np.linspace(0, len(risks) - 1, DRAWN).astype(int))
    return ((places + 1) / len(risks)).tolist(), risks[places].tolist()
