"""Linear probes: what a linear classifier reads from frozen features (Alain and Bengio, "Understanding Intermediate
Layers Using Linear Classifier Probes", 2016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tunesmith.core.errors import DataError

FOLDS = 5
ROUNDS = 2000


def right(features: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """For each row [rows] whether its class is told right by a logistic regression on the other folds' rows: 1 or 0.

    Five folds (fewer, where a class has fewer rows) with as many rows of each class, in the file's order: nothing is
    drawn. Features are scaled to variance 1, the penalty is scikit-learn's.
    """
    folds = StratifiedKFold(min(FOLDS, min(Counter(labels).values())))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ROUNDS))
    told = cross_val_predict(model, features.astype(np.float64), np.array(labels), cv=folds)
    found: np.ndarray = (told == np.array(labels)).astype(np.float64)
    return found


def chance(labels: Sequence[str]) -> float:
    """The share of the most frequent class: what is right without a look at the features."""
    return max(Counter(labels).values()) / len(labels)


def check(name: str, labels: Sequence[str]) -> None:
    """Refuse a set that can't be probed: fewer than two classes, or a class with one row. Raises DataError."""
    counts = Counter(labels)
    if len(counts) < 2 or min(counts.values()) < 2:
        told = ", ".join(f"{label}: {count}" for label, count in list(counts.items())[:8])
        raise DataError(
            f"The probe '{name}' needs at least two classes with two rows each; it has {told or 'no row'}.",
            hint="Add rows, or leave the probe out.",
        )
