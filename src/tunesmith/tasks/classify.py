"""Classification of texts or pairs of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from tunesmith.core import agreement, column, tokens
from tunesmith.core.column import Column, Row
from tunesmith.core.panel import Bars, Panel
from tunesmith.core.part import Reader, Task
from tunesmith.core.step import Batch, Step
from tunesmith.tasks import classes

LABEL_NAMES = ("label", "labels", "intent", "class", "category", "sentiment", "topic", "tag", "tags", "stars", "target")


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
    Paper: Devlin et al., "BERT", 2019, section 4.1. The head is transformers' own. `both_orders` is the form for
    similarity of Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018: they add the two
    states before the linear layer, we add what the head makes of each, which is the same where the head is linear.
    """

    metric: ClassVar[str] = "accuracy"
    defines: ClassVar[Mapping[str, str]] = classes.DEFINES
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)

    text: str | None = None
    """Column of the text; found among the usual names where not given."""
    pair: str | None = None
    """Column of a second text, read together with the first."""
    both_orders: bool = False
    """Whether a pair is read twice, each text first once, and the logits of both are added."""
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.both_orders and self.pair is None:
            raise ValueError("'both_orders' needs a second text: name its column in 'pair'")
        return self

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
        self._classes, self._shares = classes.counted(row["label"] if self.several else [row["label"]] for row in rows)
        self._weights = classes.weigh(self.class_weights, self._classes, self._shares)

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """The classes in the order of the head; from rows how frequent each is."""
        self._classes = classes.of_head(config, several=self.several)
        labels = (row["label"] if self.several else [row["label"]] for row in rows)
        self._shares = classes.shares(labels, self._classes)

    def head(self) -> dict[str, Any]:
        """One output a class, with the classes' names."""
        return classes.head(self._classes, several=self.several)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """Token ids of text and pair, and the number of the class (or a 0 or 1 a class)."""
        encode = tokens.encode_both_orders if self.both_orders else tokens.encode_texts
        examples = encode(rows, tokenizer, min(self.max_length or 512, limit))
        if rows and "label" in rows[0]:
            for example, target in zip(examples, self.truths(rows).tolist(), strict=True):
                example["target"] = target
        return examples

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded ids [batch, time], in both orders [2 batch, time]; targets [batch] (several: [batch, classes])."""
        known = "target" in examples[0]
        fields = {"targets": torch.tensor([example["target"] for example in examples])} if known else {}
        return (tokens.parts_batch if self.both_orders else tokens.batch_of)(examples, tokenizer, fields)

    def targets(self, batch: Batch) -> float:
        """Examples, or the sum of their weights where single classes are weighted."""
        if self._weights is None or self.several:
            return float(len(batch.fields["targets"]))
        return float(self._weights[batch.fields["targets"].cpu()].sum())

    def loss(self, step: Step) -> Tensor:
        """Summed cross-entropy, or binary cross-entropy with several classes."""
        logits, targets = self._logits(step), step.batch.fields["targets"]
        weights = None if self._weights is None else self._weights.to(logits.device)
        summed = binary_cross_entropy if self.several else classes.cross_entropy
        return summed(logits, targets, weights, self.label_smoothing)

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Numbers of classes [batch] (or truth values [batch, classes]), and the likeliest classes by name."""
        logits = self._logits(step).float()
        scores = (logits.sigmoid() if self.several else logits.softmax(dim=-1)).cpu().numpy()  # [batch, classes]
        answers = scores >= self.threshold if self.several else scores.argmax(axis=-1)
        return answers, [self._shown(answer, score) for answer, score in zip(answers, scores, strict=True)]

    def reread(self, lines: Sequence[Row]) -> np.ndarray:
        """Numbers of classes [rows], or truth values [rows, classes]."""
        return self.truths({"label": line["prediction"]} for line in lines)

    def scores(self, step: Step) -> Tensor | None:
        """The logits [batch, classes]; with several classes none, as each is a question of its own."""
        return None if self.several else self._logits(step)

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """Numbers of the rows' classes [rows], or truth values [rows, classes]; an unknown class raises DataError."""
        number = {name: position for position, name in enumerate(self._classes)}
        try:
            if not self.several:
                return np.array([number[row["label"]] for row in rows], dtype=np.int64)
            chosen = [[number[name] for name in row["label"]] for row in rows]
        except KeyError as error:
            raise classes.unknown(str(error.args[0]), number) from None
        return np.array([np.isin(np.arange(len(number)), places) for places in chosen], dtype=bool)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Accuracy (with several classes: of whole sets), F1 averaged over classes, and Matthews' coefficient or
        micro F1.
        """
        if self.several:
            micro, macro = agreement.set_f1(truths, answers)
            return {"accuracy": float((truths == answers).all(axis=1).mean()), "micro_f1": micro, "macro_f1": macro}
        return classes.metrics(truths, answers, len(self._classes))

    def constant(self) -> tuple[str, Any]:
        """The most frequent class of the training split; with several, every class that more than half of its rows
        have.
        """
        if self.several:
            return "most frequent classes", np.array(self._shares) > 0.5
        return "most frequent class", int(np.argmax(self._shares))

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """Precision, recall and F1 a class, and the confusion matrix."""
        if not self.several:
            return classes.panels(truths, answers, self._classes)
        table, f1 = classes.table(truths, answers, self._classes)
        return [table, Bars("F1 a class", self._classes, {"F1": f1}, y="F1")]

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Wrong answers, the most confident first."""
        return classes.worst((truths != answers).any(axis=1) if self.several else truths != answers, confidences)

    def state(self) -> dict[str, Any]:
        """The classes and how frequent they are."""
        return {"classes": self._classes, "shares": self._shares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back the classes."""
        self._classes, self._shares = list(state["classes"]), list(state["shares"])
        self._weights = classes.weigh(self.class_weights, self._classes, self._shares)

    def _logits(self, step: Step) -> Tensor:
        logits: Tensor = step.outputs.logits
        return logits[::2] + logits[1::2] if self.both_orders else logits  # [batch, classes]

    def _shown(self, answer: Any, scores: np.ndarray) -> dict[str, Any]:
        given = [self._classes[i] for i in np.flatnonzero(answer)] if self.several else self._classes[answer]
        sureness = np.abs(scores - self.threshold).min() + 0.5 if self.several else scores[answer]
        return {
            "prediction": given,
            "confidence": round(float(min(sureness, 1.0)), 6),
            "scores": classes.likeliest(scores, self._classes),
        }
