"""Classification of texts or pairs of texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from tunesmith.core import agreement, column, tokens
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, RecipeError, nearest
from tunesmith.core.panel import Bars, Cell, Heatmap, Panel, Table
from tunesmith.core.part import Reader, Task
from tunesmith.core.step import Batch, Step

LABEL_NAMES = ("label", "labels", "intent", "class", "category", "sentiment", "topic", "tag", "tags", "stars", "target")
SHOWN_SCORES = 5
DRAWN_CLASSES = 150


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Summed cross-entropy: sum over examples of -w_y ((1 - e) log p_y + e mean_k log p_k).

    logits [batch, classes], targets [batch] (numbers of classes), weights w [classes], smoothing e (Szegedy et al.,
    2016; as in torch, each class of the smoothed part keeps its own weight). Computed in float32.
    """
    return functional.cross_entropy(logits.float(), targets, weight=weights, label_smoothing=smoothing, reduction="sum")


def binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Summed binary cross-entropy of independent classes, each example's mean over its classes.

    logits and targets [batch, classes] (targets 0 or 1, smoothed towards 1/2 by e); weights w [classes] multiply the
    loss of each class. Computed in float32.
    """
    soft = targets.float() * (1 - smoothing) + 0.5 * smoothing
    losses = functional.binary_cross_entropy_with_logits(logits.float(), soft, weight=weights, reduction="none")
    return losses.mean(dim=-1).sum()


class Classify(Task):
    """Give a text, or a pair of texts, one class out of several, or any number of classes.

    Formula: p(y | x) = softmax(head(backbone(x))), loss -log p(y | x); with several labels a sigmoid and a binary loss
    a class.
    Symbols: x the tokens of the text (and pair), y the class. Shapes: logits [batch, classes].
    Paper: Devlin et al., "BERT", 2019, section 4.1. The head is transformers' own.
    """

    metric: ClassVar[str] = "accuracy"
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)

    text: str | None = None
    """Column of the text; found among the usual names where not given."""
    pair: str | None = None
    """Column of a second text, read together with the first."""
    label: str | None = None
    """Column of the class; found among the usual names where not given."""
    several: bool = False
    """Whether a row may have several classes (a list, or one text with `separator`), or none."""
    separator: str = Field(",", min_length=1)
    """What stands between the classes of a row where they are one text."""
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """`balanced` weighs every class by rows / (classes * rows of the class); or a weight a class (others 1)."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share e of the target spread evenly over the classes."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """With several classes: the probability from which a class is given."""
    max_length: int | None = Field(None, ge=4)
    """Most tokens of a text (with its pair); the model's limit, at most 512, where not given."""

    _classes: list[str] = PrivateAttr(default_factory=list)
    _shares: list[float] = PrivateAttr(default_factory=list)
    _weights: Tensor | None = PrivateAttr(default=None)

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """A column named like a class whose values repeat; a second text where one is named like it."""
        lower = {name.lower(): name for name in names}
        label = next((lower[name] for name in LABEL_NAMES if name in lower), None)
        text = next((lower[name] for name in column.TEXT_NAMES if name in lower and lower[name] != label), None)
        if label is None or text is None:
            return None
        pair = next((lower[name] for name in column.PAIR_NAMES if name in lower), None)
        several = any(isinstance(row.get(label), list) for row in rows)
        settings = {"text": text, "pair": pair, "label": label, "several": several}
        return {key: value for key, value in settings.items() if value}

    def columns(self) -> list[Column]:
        """Text, class, and the second text if the recipe names one."""
        parse, storage = (
            (partial(column.labels, separator=self.separator), "texts") if self.several else (column.label, "text")
        )
        return [
            *column.texts(self.text, self.pair),
            Column("label", self.label, LABEL_NAMES, parse, storage=storage, target=True, classes=True),  # type: ignore[arg-type]
        ]

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn the classes, in the order of their names, how frequent each is, and their weights."""
        counts: Counter[str] = Counter()
        total = 0
        for row in rows:
            counts.update(row["label"] if self.several else [row["label"]])
            total += 1
        self._classes = sorted(counts, key=_natural)
        self._shares = [counts[name] / total for name in self._classes]
        self._weights = self._weigh()

    def head(self) -> dict[str, Any]:
        """One output a class, with the classes' names."""
        return {
            "num_labels": len(self._classes),
            "id2label": dict(enumerate(self._classes)),
            "label2id": {name: number for number, name in enumerate(self._classes)},
            "problem_type": "multi_label_classification" if self.several else "single_label_classification",
        }

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """Token ids of text and pair, and the number of the class (or a 0 or 1 a class)."""
        examples = tokens.encode_texts(rows, tokenizer, min(self.max_length or 512, limit))
        if rows and "label" in rows[0]:
            for example, target in zip(examples, self.truths(rows).tolist(), strict=True):
                example["target"] = target
        return examples

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded ids [batch, time]; targets [batch], or [batch, classes] with several."""
        known = "target" in examples[0]
        fields = {"targets": torch.tensor([example["target"] for example in examples])} if known else {}
        return tokens.batch_of(examples, tokenizer, fields)

    def targets(self, batch: Batch) -> float:
        """Examples, or the sum of their weights where single classes are weighted."""
        if self._weights is None or self.several:
            return float(len(batch.fields["targets"]))
        return float(self._weights[batch.fields["targets"].cpu()].sum())

    def loss(self, step: Step) -> Tensor:
        """Summed cross-entropy, or binary cross-entropy with several classes."""
        logits, targets = step.outputs.logits, step.batch.fields["targets"]
        weights = None if self._weights is None else self._weights.to(logits.device)
        summed = binary_cross_entropy if self.several else cross_entropy
        return summed(logits, targets, weights, self.label_smoothing)

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Numbers of classes [batch] (or truth values [batch, classes]), and the likeliest classes by name."""
        logits = step.outputs.logits.float()
        scores = (logits.sigmoid() if self.several else logits.softmax(dim=-1)).cpu().numpy()  # [batch, classes]
        answers = scores >= self.threshold if self.several else scores.argmax(axis=-1)
        return answers, [self._shown(answer, score) for answer, score in zip(answers, scores, strict=True)]

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """Numbers of the rows' classes [rows], or truth values [rows, classes]; an unknown class raises DataError."""
        number = {name: position for position, name in enumerate(self._classes)}
        try:
            if not self.several:
                return np.array([number[row["label"]] for row in rows], dtype=np.int64)
            chosen = [[number[name] for name in row["label"]] for row in rows]
        except KeyError as error:
            name = str(error.args[0])
            raise DataError(f"No class of this model is called '{name}'. {nearest(name, number)}") from None
        return np.array([np.isin(np.arange(len(number)), places) for places in chosen], dtype=bool)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Accuracy (with several classes: of whole sets), F1 averaged over classes, and Matthews' coefficient or
        micro F1.
        """
        if self.several:
            micro, macro = agreement.set_f1(truths, answers)
            return {"accuracy": float((truths == answers).all(axis=1).mean()), "micro_f1": micro, "macro_f1": macro}
        matrix = agreement.confusion(truths, answers, len(self._classes))
        return {
            "accuracy": float((truths == answers).mean()),
            "macro_f1": agreement.macro_f1(matrix),
            "matthews": agreement.matthews(matrix),
        }

    def constant(self) -> tuple[str, Any]:
        """The most frequent class of the training split; with several, every class that more than half of its rows
        have.
        """
        if self.several:
            return "most frequent classes", np.array(self._shares) > 0.5
        return "most frequent class", int(np.argmax(self._shares))

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """Precision, recall and F1 a class, and the confusion matrix."""
        numbers = range(len(self._classes))
        labels = None if self.several else list(numbers)
        precision, recall, f1, support = precision_recall_fscore_support(
            truths, answers, labels=labels, zero_division=0
        )
        rows: list[list[Cell]] = [
            [self._classes[i], int(support[i]), float(precision[i]), float(recall[i]), float(f1[i])] for i in numbers
        ]
        found: list[Panel] = [Table("Each class", ["class", "rows", "precision", "recall", "F1"], rows)]
        if self.several:
            found.append(Bars("F1 a class", self._classes, {"F1": [float(value) for value in f1]}, y="F1"))
        elif len(self._classes) <= DRAWN_CLASSES:
            matrix = agreement.confusion(truths, answers, len(self._classes)).tolist()
            found.append(
                Heatmap(
                    "Confusion matrix",
                    self._classes,
                    self._classes,
                    matrix,
                    x="predicted",
                    y="true",
                    note="Rows of the split.",
                )
            )
        return found

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Wrong answers, the most confident first."""
        wrong = (truths != answers).any(axis=1) if self.several else truths != answers
        positions = np.flatnonzero(wrong)
        return positions[np.argsort(-confidences[positions], kind="stable")]

    def state(self) -> dict[str, Any]:
        """The classes and how frequent they are."""
        return {"classes": self._classes, "shares": self._shares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back the classes."""
        self._classes, self._shares = list(state["classes"]), list(state["shares"])
        self._weights = self._weigh()

    def _weigh(self) -> Tensor | None:
        """Weights [classes]; balanced ones are rows / (classes * rows of the class), so that their mean over rows
        is 1.
        """
        if self.class_weights is None:
            return None
        if self.class_weights == "balanced":
            total = sum(self._shares)
            return torch.tensor([total / (len(self._shares) * share) for share in self._shares])
        for name, weight in self.class_weights.items():
            if name not in self._classes:
                raise RecipeError(f"task.class_weights: no class is called '{name}'. {nearest(name, self._classes)}")
            if weight < 0:
                raise RecipeError(f"task.class_weights: the weight of '{name}' is {weight}; it must be at least 0.")
        return torch.tensor([float(self.class_weights.get(name, 1.0)) for name in self._classes])

    def _shown(self, answer: Any, scores: np.ndarray) -> dict[str, Any]:
        likeliest = np.argsort(-scores, kind="stable")[:SHOWN_SCORES]
        given = [self._classes[i] for i in np.flatnonzero(answer)] if self.several else self._classes[answer]
        sureness = np.abs(scores - self.threshold).min() + 0.5 if self.several else scores[answer]
        return {
            "prediction": given,
            "confidence": round(float(min(sureness, 1.0)), 6),
            "scores": {self._classes[i]: round(float(scores[i]), 6) for i in likeliest},
        }


def _natural(name: str) -> tuple[float, str]:
    # Classes that are numbers stand in their order: 2 before 10. Words such as "nan" are none, though float reads them.
    try:
        value = float(name)
    except ValueError:
        value = math.inf
    return (value, name) if math.isfinite(value) else (math.inf, name)
