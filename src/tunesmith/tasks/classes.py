"""What tasks with one class a row share: the order of classes, their weights, the loss, metrics and panels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tunesmith.core import agreement
from tunesmith.core.errors import DataError, ModelError, RecipeError, nearest
from tunesmith.core.lazy import Lazy
from tunesmith.core.panel import Cell, Heatmap, Panel, Table

scikit: Any = Lazy("sklearn.metrics")

RENAME = "Name them: --label NAME_IN_THE_HEAD=NAME_IN_THE_FILE."
SHOWN_SCORES = 5
DRAWN_CLASSES = 150


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Summed cross-entropy: sum over examples of -w_y ((1 - e) log p_y + e mean_k log p_k).

    logits [batch, classes], targets [batch] (numbers of classes), weights w [classes], smoothing e (Szegedy et al.,
    2016; as in torch, each class of the smoothed part keeps its own weight). Computed in float32.
    """
    return functional.cross_entropy(logits.float(), targets, weight=weights, label_smoothing=smoothing, reduction="sum")


def counted(rows: Iterable[Iterable[str]]) -> tuple[list[str], list[float]]:
    """The classes that rows have, each row any number, in their natural order, and the share of rows of each."""
    counts: Counter[str] = Counter()
    total = 0
    for names in rows:
        counts.update(names)
        total += 1
    ordered = sorted(counts, key=_natural)
    return ordered, [counts[name] / total for name in ordered]


def weigh(
    setting: Literal["balanced"] | Mapping[str, float] | None, names: Sequence[str], shares: Sequence[float]
) -> Tensor | None:
    """Weights [classes], None for none; balanced ones are rows / (classes * rows of the class), so that their mean over
    rows is 1. A weight of no class, or a negative one, raises RecipeError.
    """
    if setting is None:
        return None
    if setting == "balanced":
        total = sum(shares)
        return torch.tensor([total / (len(shares) * share) for share in shares])
    for name, weight in setting.items():
        if name not in names:
            raise RecipeError(f"task.class_weights: no class is called '{name}'. {nearest(name, names)}")
        if weight < 0:
            raise RecipeError(f"task.class_weights: the weight of '{name}' is {weight}; it must be at least 0.")
    return torch.tensor([float(setting.get(name, 1.0)) for name in names])


def head(names: Sequence[str], *, several: bool = False) -> dict[str, Any]:
    """Entries of a model's configuration: one output a class, with its name; `several` can be right at once."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "multi_label_classification" if several else "single_label_classification",
    }


def of_head(config: Any, *, several: bool = False) -> list[str]:
    """The classes that the head of a model trained elsewhere gives, in its order; `several` can be right at once.
    Raises ModelError for a head that means something else: one output, a regression, two outputs of one name.
    """
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    told = getattr(config, "problem_type", None)
    if told == "regression" or len(names) < 2:
        raise ModelError(
            f"The model's head has {len(names)} outputs (problem_type: {told}): these are no classes.",
            hint="Measure it as a task of numbers: --task regress.",
        )
    if told is not None and several != (told == "multi_label_classification"):
        which = "several classes" if not several else "one class"
        raise ModelError(
            f"The model was trained to give a row {which} (problem_type: {told}), and is asked for the other.",
            hint=f"Say so: --set task.several={'false' if several else 'true'}.",
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ModelError(f"Several outputs of the model's head have one name: {', '.join(twice)}.", hint=RENAME)
    return names


def shares(rows: Iterable[Iterable[str]], names: Sequence[str]) -> list[float]:
    """The share of rows that have each of these classes."""
    found = dict(zip(*counted(rows), strict=True))
    return [found.get(name, 0.0) for name in names]


def unknown(name: str, names: Iterable[str]) -> DataError:
    """What to say of a class that the model does not know."""
    return DataError(f"No class of this model is called '{name}'. {nearest(name, names)}")


DEFINES = {
    "accuracy": "The share of rows with the right answer; with several classes, of rows with just the right ones.",
    "macro_f1": "F1, the harmonic mean of precision and recall, of each class, averaged over classes: rare ones count "
    "as much as frequent ones.",
    "micro_f1": "F1, the harmonic mean of precision and recall, of all classes of all rows together.",
    "matthews": "Matthews' correlation coefficient of answers and truths: 1 is perfect, 0 no better than a guess, also "
    "where classes differ in size.",
}
"""What the metrics of tasks with classes are."""


def metrics(truths: np.ndarray, answers: np.ndarray, classes: int) -> dict[str, float]:
    """Accuracy, F1 averaged over classes, and Matthews' coefficient, of numbers of classes [rows]."""
    matrix = agreement.confusion(truths, answers, classes)
    return {
        "accuracy": float((truths == answers).mean()),
        "macro_f1": agreement.macro_f1(matrix),
        "matthews": agreement.matthews(matrix),
    }


def table(truths: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> tuple[Table, list[float]]:
    """Precision, recall and F1 a class, as a table, and F1 alone; of numbers of classes [rows], or of truth values
    [rows, classes].
    """
    numbers = range(len(names))
    labels = list(numbers) if truths.ndim == 1 else None
    precision, recall, f1, support = scikit.precision_recall_fscore_support(
        truths, answers, labels=labels, zero_division=0
    )
    rows: list[list[Cell]] = [
        [names[i], int(support[i]), float(precision[i]), float(recall[i]), float(f1[i])] for i in numbers
    ]
    return Table("Each class", ["class", "rows", "precision", "recall", "F1"], rows), [float(value) for value in f1]


def panels(truths: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> list[Panel]:
    """Precision, recall and F1 a class, and the confusion matrix, of numbers of classes [rows]."""
    found: list[Panel] = [table(truths, answers, names)[0]]
    if len(names) <= DRAWN_CLASSES:
        matrix = agreement.confusion(truths, answers, len(names)).tolist()
        note = "Rows of the split."
        found.append(Heatmap("Confusion matrix", names, names, matrix, x="predicted", y="true", note=note))
    return found


def worst(wrong: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """Positions of the rows that are `wrong` [rows], the most confident first."""
    positions = np.flatnonzero(wrong)
    return positions[np.argsort(-confidences[positions], kind="stable")]


def likeliest(scores: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """The likeliest classes by name, from scores [classes]."""
    return {names[i]: round(float(scores[i]), 6) for i in np.argsort(-scores, kind="stable")[:SHOWN_SCORES]}


def _natural(name: str) -> tuple[float, str]:
    # Classes that are numbers stand in their order: 2 before 10. Words such as "nan" are none, though float reads them.
    try:
        value = float(name)
    except ValueError:
        value = math.inf
    return (value, name) if math.isfinite(value) else (math.inf, name)
