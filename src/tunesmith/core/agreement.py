"""Metrics of answers against truths, fast enough to be computed on a thousand resamplings.

Each equals scikit-learn's or SciPy's of the same name (the tests compare them); those check their input anew at each
call, which makes a bootstrap take minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy

stats: Any = Lazy("scipy.stats")


def confusion(truths: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """Rows by true and given class: [classes, classes], from two arrays of class numbers [rows]."""
    counts = np.bincount(truths * classes + answers, minlength=classes * classes)
    return counts.reshape(classes, classes)


def macro_f1(matrix: np.ndarray) -> float:
    """The mean of 2 tp / (true + given) over the classes that are among the truths."""
    true, given = matrix.sum(axis=1), matrix.sum(axis=0)
    present = true > 0
    return float((2 * np.diag(matrix)[present] / (true + given)[present]).mean())


def matthews(matrix: np.ndarray) -> float:
    """Matthews' correlation for any number of classes (Gorodkin, 2004); 0 where one side is constant.

    (c s - sum t_k g_k) / sqrt((s^2 - sum t_k^2) (s^2 - sum g_k^2)); s rows, c right ones, t_k true and g_k given of
    class k.
    """
    true, given = matrix.sum(axis=1).astype(float), matrix.sum(axis=0).astype(float)
    rows, right = true.sum(), np.trace(matrix)
    size = (rows**2 - true @ true) * (rows**2 - given @ given)
    return float((right * rows - true @ given) / size**0.5) if size > 0 else 0.0


def set_f1(truths: np.ndarray, answers: np.ndarray) -> tuple[float, float]:
    """Micro and macro F1 of sets of classes, from truth values [rows, classes]; 0 for a class that never occurs."""
    hits = (truths & answers).sum(axis=0)
    sizes = truths.sum(axis=0) + answers.sum(axis=0)
    single = np.divide(2 * hits, sizes, out=np.zeros(len(hits)), where=sizes > 0)
    return float(2 * hits.sum() / max(1, sizes.sum())), float(single.mean())


def pearson(truths: np.ndarray, answers: np.ndarray) -> float:
    """Pearson's correlation of two arrays [rows]; NaN where one is constant."""
    if len(truths) < 2 or np.ptp(truths) == 0 or np.ptp(answers) == 0:
        return float("nan")
    return float(np.corrcoef(truths, answers)[0, 1])


def spearman(truths: np.ndarray, answers: np.ndarray) -> float:
    """Spearman's correlation: Pearson's of the ranks, ties sharing their mean rank."""
    return pearson(stats.rankdata(truths), stats.rankdata(answers))
