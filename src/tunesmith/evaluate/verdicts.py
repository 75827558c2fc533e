"""What the figures of suites come to: a verdict each, by limits that stand here and nowhere else.

Where an interval was estimated, it decides and not its middle: what chance alone could have made is held against no
model, and counted for none. Too few rows to tell give no verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunesmith.core.panel import Aspect, Grade, Verdict
from tunesmith.evaluate import stats
from tunesmith.evaluate.shift import Measured

FEW = 10
"""Fewer rows than these vary too little when they are drawn again: their intervals are too narrow."""
SMALL, LARGE = 0.05, 0.15
"""Losses in shares of a score: the first is what one lives with, the second is felt by whoever uses the model."""
KEPT, HALF_KEPT = 0.9, 0.7
"""Of what a model could do before its training."""
ALIKE, HALF_ALIKE = 0.9, 0.5
"""CKA of features before and after; below the second they are more different than alike."""
ERROR, LARGE_ERROR = 0.05, 0.1
"""Calibration errors: 0.1 is a confidence of 90 % where 80 % are right."""


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; NaN where one is not known."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @staticmethod
    def of(value: float, draws: np.ndarray) -> Estimate:
        """A value with the interval of its draws [draws]."""
        return Estimate(value, *stats.interval(draws))

    @property
    def known(self) -> bool:
        """Whether it has an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def share_lost(before: np.ndarray, after: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """How much worse a metric is afterwards, in shares of what it was: (before - after) / before, with the sign turned
    where lower is better; NaN where it was not above 0. Arrays of one shape.
    """
    sign = 1 if higher_is_better else -1
    found: np.ndarray = sign * (before - after) / np.where(before > 0, before, np.nan)
    return found


def lost(before: Measured, after: Measured, metric: str, higher_is_better: bool) -> Estimate:
    """The share of a metric that is lost, with the interval of their draws, which are independent."""
    share = share_lost(np.array([before.values[metric]]), np.array([after.values[metric]]), higher_is_better)
    return Estimate.of(float(share[0]), share_lost(before.draws[metric], after.draws[metric], higher_is_better))


def learned(metric: str, rival: str, ahead: Estimate, rows: int, split: str) -> Verdict:
    """ahead: how much better the model is than the best of what needs no training, on the same draws of rows."""
    rule = (
        f"By how much the model's {metric} is better than that of {rival}, the best of what needs no training, on the "
        "same rows. Learned: the whole interval lies above 0. Did not learn: it does not, so that chance may be all. "
        f"Fewer than {FEW} rows can't tell."
    )
    figure = f"{metric}: better than {rival} by"
    if not ahead.known:
        said = f"The {metric} of the model is not defined on these {split} rows: its answers may be all alike."
        return Verdict("learned", "unknown", "Learned?", said, figure, rule=rule)
    if rows < FEW:
        said = f"{rows} {split} row{'' if rows == 1 else 's'} can't rule out chance."
        return _verdict("learned", "unknown", "Learned?", (said, figure, rule), ahead)
    if ahead.low > 0:
        said = f"On {rows:,} {split} rows it is better than the best baseline ({rival}), beyond what chance explains."
        return _verdict("learned", "good", "Learned", (said, figure, rule), ahead)
    more = "not better" if ahead.value <= 0 else "better, but by no more than chance may explain,"
    said = f"On {rows:,} {split} rows it is {more} than the best baseline ({rival})."
    return _verdict("learned", "bad", "Did not learn", (said, figure, rule), ahead)


def worth(metric: str, rival: str, ahead: Estimate, rows: int, split: str) -> Verdict:
    """ahead: how much better the model is than the strongest of the baselines that were measured, on the same draws."""
    rule = (
        f"By how much the model's {metric} is better than that of {rival}, the strongest of the baselines that were "
        "measured, on the same rows. Worth its training: the whole interval lies above 0. Not worth it: it lies below. "
        f"Otherwise, or with fewer than {FEW} rows, it can't be told. It stands beside whether anything was learned."
    )
    told = ahead.known and rows >= FEW
    grade: Grade = "unknown" if not told else "good" if ahead.low > 0 else "bad" if ahead.high < 0 else "unknown"
    words = {"good": "Worth its training", "bad": "Not worth its training", "unknown": "Worth its training?"}
    beside = {"good": "is better than", "bad": "is worse than", "unknown": "can't be told from"}[grade]
    said = f"On {rows:,} {split} rows the model {beside} the strongest baseline, {rival}."
    texts = said, f"{metric}: better than {rival} by", rule
    return _verdict("learned", grade, words[grade], texts, ahead, support=True)


def generalises(metric: str, split: str, lost: Estimate, learned: bool) -> Verdict:
    """lost: the share of the metric on training rows that is lost on rows that the model did not see. learned: whether
    there is anything that could be lost.
    """
    rule = _loss_rule(f"How much worse {metric} is on {split} rows than on training rows, as a share of the latter.")
    figure, grade = f"{metric}: share lost from training to {split} rows", _of_loss(lost)
    if not learned and grade == "good":
        said = "It is as good on the rows of its training as on others, but it did not learn."
        return _verdict("generalises", "unknown", "Generalises?", (said, figure, rule), lost)
    words = {"good": "Generalises", "mixed": "Generalises in part", "bad": "Overfitted", "unknown": "Generalises?"}
    told = {
        "good": f"On {split} rows it is about as good as on those of its training.",
        "mixed": f"On {split} rows it is worse than on those of its training.",
        "bad": f"On {split} rows it is much worse than on those of its training, which it learned by heart.",
        "unknown": _untold(lost),
    }
    return _verdict("generalises", grade, words[grade], (told[grade], figure, rule), lost)


def carries_over(metric: str, split: str, name: str, lost: Estimate) -> Verdict:
    """lost: the share of the metric on a split that is lost on the rows of another kind called `name`."""
    rule = _loss_rule(
        f"How much worse {metric} is on other rows than on {split} rows, as a share of the latter; of several files "
        "the one with the greatest loss."
    )
    figure, grade = f"{metric}: share lost from {split} rows to {name}", _of_loss(lost)
    words = {"good": "Carries over", "mixed": "Carries over in part", "bad": "Does not carry over"}
    said = {
        "good": f"On rows of another kind ({name}) it is about as good.",
        "mixed": f"On rows of another kind ({name}) it is worse.",
        "bad": f"On rows of another kind ({name}) it is much worse.",
        "unknown": _untold(lost),
    }
    return _verdict("generalises", grade, words.get(grade, "Carries over?"), (said[grade], figure, rule), lost)


def kept(score: Estimate) -> Verdict:
    """score: the retention score."""
    rule = (
        "The mean of what was kept of the parts that were measured: 1 where nothing was lost, 0 where all was. Kept: "
        f"at least {KEPT}. Forgot some: at least {HALF_KEPT}. Forgot much: less. The interval knows only those "
        "measurements that have one; the score decides."
    )
    grade = _above(score.value, KEPT, HALF_KEPT)
    words = {"good": "Kept what it knew", "mixed": "Forgot some", "bad": "Forgot much", "unknown": "Kept?"}
    said = {
        "good": "What the model could do before its training, it still can.",
        "mixed": "Some of what the model could do before its training is lost.",
        "bad": "Much of what the model could do before its training is lost.",
        "unknown": "The score is not defined.",
    }
    return _verdict("kept", grade, words[grade], (said[grade], "retention score", rule), score)


def moved(likeness: float, rows: int) -> Verdict:
    """likeness: CKA of features before and after, the mean over blocks."""
    rule = (
        "Linear CKA of features before and after the training, the mean over blocks: 1 where they are the same up to a "
        f"rotation and a factor. Moved little: at least {ALIKE}. Moved: at least {HALF_ALIKE}. Moved far: less, more "
        "different than alike. It is no fault in itself and stands beside what was kept."
    )
    grade = _above(likeness, ALIKE, HALF_ALIKE)
    words = {"good": "Moved little", "mixed": "Moved", "bad": "Moved far", "unknown": "Moved?"}
    said = {
        "good": f"What the model makes of {rows:,} rows is nearly what it made of them before.",
        "mixed": f"What the model makes of {rows:,} rows is still like what it made of them before.",
        "bad": f"What the model makes of {rows:,} rows is little like what it made of them before.",
        "unknown": "It could not be told.",
    }
    texts = said[grade], "likeness of features (CKA), mean over blocks", rule
    return _verdict("kept", grade, words[grade], texts, Estimate(likeness), support=True)


def robust(metric: str, lost: Estimate) -> Verdict:
    """lost: the share of the metric that is lost on changed texts, the mean over changes."""
    rule = _loss_rule(
        f"How much worse {metric} is on texts that are written otherwise, the mean over all changes and strengths, as "
        "a share of what it is on the same texts as they were."
    )
    grade = _of_loss(lost)
    words = {"good": "Robust", "mixed": "Somewhat fragile", "bad": "Fragile", "unknown": "Robust?"}
    said = {
        "good": "Texts that are written otherwise and mean the same are answered about as well.",
        "mixed": "Texts that are written otherwise and mean the same are answered less well.",
        "bad": "Texts that are written otherwise and mean the same are answered much less well.",
        "unknown": _untold(lost),
    }
    return _verdict("robust", grade, words[grade], (said[grade], f"{metric}: share lost on changed texts", rule), lost)


def calibrated(error: Estimate, by_chance: float, excess: float) -> Verdict:
    """error: the expected calibration error. by_chance: the upper end of the interval that right confidences would give
    on these rows. excess: the mean confidence less the share of right answers.
    """
    rule = (
        "The expected calibration error: how far confidences are from the share of right answers. Calibrated: it is no "
        f"greater than right confidences would give by chance, or its whole interval lies below {ERROR}. Over- or "
        f"underconfident: its whole interval lies above {LARGE_ERROR}. Somewhat: in between. Where right confidences "
        f"alone may give {LARGE_ERROR}, the rows are too few to tell."
    )
    figure = "expected calibration error"
    if not error.known or (error.value <= by_chance and by_chance > LARGE_ERROR):
        said = "On so few rows right confidences may give such an error too."
        return _verdict("calibrated", "unknown", "Calibrated?", (said, figure, rule), error)
    if error.value <= by_chance or error.high < ERROR:
        said = "It is right about as often as it says."
        return _verdict("calibrated", "good", "Calibrated", (said, figure, rule), error)
    kind, said = ("overconfident", "surer") if excess > 0 else ("underconfident", "less sure")
    said = f"It is {said} than it is right: on average by {abs(excess):.3f}."
    grade: Grade = "bad" if error.low > LARGE_ERROR else "mixed"
    word = kind.capitalize() if grade == "bad" else f"Somewhat {kind}"
    return _verdict("calibrated", grade, word, (said, figure, rule), error)


def _of_loss(lost: Estimate) -> Grade:
    if not lost.known:
        return "unknown"
    if lost.low > SMALL:
        return "bad" if lost.low > LARGE else "mixed"
    return "good" if lost.high <= LARGE else "unknown"


def _loss_rule(what: str) -> str:
    small, large = (f"{100 * limit:g} %" for limit in (SMALL, LARGE))
    return (
        f"{what} Good: the interval begins at {small} or below, and ends at {large} or below. In part: it begins above "
        f"{small}. Bad: it begins above {large}. Otherwise the rows are too few to tell."
    )


def _untold(lost: Estimate) -> str:
    if lost.known:
        return "The rows are too few to tell: there may be no loss, or a large one."
    return "A share of the metric is not defined, as it is not above 0."


def _above(value: float, good: float, mixed: float) -> Grade:
    if math.isnan(value):
        return "unknown"
    return "good" if value >= good else "mixed" if value >= mixed else "bad"


def _verdict(
    aspect: Aspect, grade: Grade, word: str, texts: tuple[str, str, str], found: Estimate, support: bool = False
) -> Verdict:
    value, low, high = (one if math.isfinite(one) else None for one in (found.value, found.low, found.high))
    said, figure, rule = texts
    return Verdict(aspect, grade, word, said, figure, value, low, high, rule, support)
