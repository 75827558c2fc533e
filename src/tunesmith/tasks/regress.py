"""Regression: one number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tunesmith.core import agreement, column, tokens
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import ModelError
from tunesmith.core.panel import Panel, Points
from tunesmith.core.part import Reader, Task
from tunesmith.core.step import Batch, Step

SCORE_NAMES = ("score", "rating", "value", "urgency", "similarity", "number", "target")
DRAWN_POINTS = 2000


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Summed squared error: sum over examples of (output - target)^2, both [batch], in float32."""
    return ((outputs.float() - targets.float()) ** 2).sum()


class Regress(Task):
    """Give a text, or a pair of texts, one number.

    Formula: z = head(backbone(x)), loss (z - (y - m) / s)^2, answer m + s z.
    Symbols: y the score, m and s the mean and standard deviation of the training split's scores. Shapes: z [batch].
    Paper: Devlin et al., "BERT", 2019 (STS-B in section 4.1) use the raw score; we learn on the standardised one, so
    that the fresh head starts near the mean whatever the unit, and undo it at prediction. `both_orders` is the form for
    similarity of Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018: they add the two
    states before the linear layer, we add what the head makes of each, which is the same where the head is linear.
    """

    metric: ClassVar[str] = "pearson"
    defines: ClassVar[Mapping[str, str]] = {
        "pearson": "Pearson's correlation of answers and truths: 1 where they lie on a rising line.",
        "spearman": "Spearman's correlation of answers and truths: 1 where their order is the same.",
        "rmse": "Root of the mean squared error, in the units of the score. Lower is better.",
        "r2": "The share of the scores' variance that the answers explain: 1 is perfect, 0 no better than their mean.",
    }
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)

    text: str | None = None
    """Column of the text; found among the usual names where not given."""
    pair: str | None = None
    """Column of a second text, read together with the first."""
    both_orders: bool = False
    """Whether a pair is read twice, each text first once, and the numbers of both are added."""
    score: str | None = None
    """Column of the number; found among the usual names where not given."""
    max_length: int | None = Field(None, ge=4)
    """Most tokens of a text (with its pair); the model's limit, at most 512, where not given."""

    _mean: float = PrivateAttr(default=0.0)
    _scale: float = PrivateAttr(default=1.0)
    _usual: float | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.both_orders and self.pair is None:
            raise ValueError("'both_orders' needs a second text: name its column in 'pair'")
        return self

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """A column named like a score that mostly holds numbers; a second text where one is named like it."""
        lower = {name.lower(): name for name in names}
        score = next((lower[name] for name in SCORE_NAMES if name in lower), None)
        text = next((lower[name] for name in column.TEXT_NAMES if name in lower and lower[name] != score), None)
        if score is None or text is None or 2 * sum(_is_number(row.get(score)) for row in rows) <= len(rows):
            return None
        pair = next((lower[name] for name in column.PAIR_NAMES if name in lower), None)
        return {key: value for key, value in {"text": text, "pair": pair, "score": score}.items() if value}

    def columns(self) -> list[Column]:
        """Text, score, and the second text if the recipe names one."""
        return [
            *column.texts(self.text, self.pair),
            Column("score", self.score, SCORE_NAMES, column.number, storage="number", target=True),
        ]

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn mean and standard deviation of the scores, in one pass (Welford, 1962)."""
        count, mean, squares = 0, 0.0, 0.0
        for row in rows:
            count += 1
            difference = row["score"] - mean
            mean += difference / count
            squares += difference * (row["score"] - mean)
        self._mean, self._scale = mean, (squares / max(count, 1)) ** 0.5 or 1.0

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """The one output is the score as it stands; from rows their mean."""
        if config.num_labels != 1:
            raise ModelError(
                f"The model's head has {config.num_labels} outputs; a score is one.",
                hint="Measure it as a task of classes: --task classify.",
            )
        self.learn(rows)
        self._usual, self._mean, self._scale = self._mean, 0.0, 1.0

    def head(self) -> dict[str, Any]:
        """One output."""
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """Token ids of text and pair, and the standardised score."""
        encode = tokens.encode_both_orders if self.both_orders else tokens.encode_texts
        examples = encode(rows, tokenizer, min(self.max_length or 512, limit))
        if rows and "score" in rows[0]:
            for example, row in zip(examples, rows, strict=True):
                example["target"] = (row["score"] - self._mean) / self._scale
        return examples

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded ids [batch, time] ([2 batch, time] in both orders); targets [batch]."""
        known = "target" in examples[0]
        fields = {"targets": torch.tensor([example["target"] for example in examples])} if known else {}
        return (tokens.parts_batch if self.both_orders else tokens.batch_of)(examples, tokenizer, fields)

    def targets(self, batch: Batch) -> float:
        """Examples."""
        return float(len(batch.fields["targets"]))

    def loss(self, step: Step) -> Tensor:
        """Summed squared error of the standardised scores."""
        return squared_error(self._outputs(step), step.batch.fields["targets"])

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Numbers in the unit of the training split [batch]."""
        answers = self._outputs(step).double().cpu().numpy() * self._scale + self._mean
        return answers, [{"prediction": round(float(answer), 6)} for answer in answers]

    def reread(self, lines: Sequence[Row]) -> np.ndarray:
        """The numbers [rows]."""
        return np.array([line["prediction"] for line in lines], dtype=np.float64)

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """The scores."""
        return np.array([row["score"] for row in rows], dtype=np.float64)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Pearson's and Spearman's correlation, root of the mean squared error, and share of variance explained."""
        spread = float(((truths - truths.mean()) ** 2).mean())
        error = float(((truths - answers) ** 2).mean())
        return {
            "pearson": agreement.pearson(truths, answers),
            "spearman": agreement.spearman(truths, answers),
            "rmse": error**0.5,
            "r2": 1 - error / spread if spread else float("nan"),
        }

    def constant(self) -> tuple[str, Any]:
        """The mean score of the training split."""
        return "mean score", self._mean if self._usual is None else self._usual

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """Answers against truths."""
        every = max(1, len(truths) // DRAWN_POINTS)
        xs, ys = truths[::every].tolist(), answers[::every].tolist()
        return [Points("Predicted against true", xs, ys, x="true", y="predicted", diagonal=True)]

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Rows by the size of their error, the largest first."""
        return np.argsort(-np.abs(truths - answers), kind="stable")

    def state(self) -> dict[str, Any]:
        """The scale."""
        return {"mean": self._mean, "scale": self._scale}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back the scale."""
        self._mean, self._scale = float(state["mean"]), float(state["scale"])

    def _outputs(self, step: Step) -> Tensor:
        numbers: Tensor = step.outputs.logits.squeeze(-1)
        return numbers[::2] + numbers[1::2] if self.both_orders else numbers  # [batch]


def _is_number(value: object) -> bool:
    try:
        column.number(value)
    except ValueError:
        return False
    return True
