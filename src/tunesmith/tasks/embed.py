"""Vectors of texts: near where the texts mean the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.core import agreement, column, tokens
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, raise_faults
from tunesmith.core.notes import note
from tunesmith.core.panel import Bars, Panel, Points, Tokens
from tunesmith.core.part import Reader, Task
from tunesmith.core.rows import Rows, line_of
from tunesmith.core.step import Batch, Step
from tunesmith.tasks import embed_ranking, embed_vectors

TEXT_NAMES = ("anchor", "query", *column.TEXT_NAMES)
PAIR_NAMES = ("positive", *column.PAIR_NAMES)
SCORE_NAMES = ("score", "similarity", "rating", "value")
ROLES = ("text", "pair", "negative")
USUAL_LENGTH = 512
DRAWN_POINTS = 2000
PLACES = ((1, 1, "first"), (1.5, 3, "to 3"), (3.5, 10, "to 10"), (10.5, 100, "to 100"), (100.5, np.inf, "behind"))


class Embed(Task):
    """Turn texts into vectors whose cosine says how near they are in meaning.

    Formula: cosine: (cos(u, v) - (y - low) / (high - low))^2; in_batch: -log softmax_j(cos(u_i, v_j) / T) at j = i,
    over the second texts of the batch and all its negatives.
    Symbols: u, v the vectors of a row's two texts, each pooled from the last states of its tokens, y their score, low
    and high the scores that mean 0 and 1, T the temperature. Shapes: u, v [batch, hidden].
    Paper: Reimers and Gurevych, "Sentence-BERT", 2019; in_batch: Henderson et al., "Efficient Natural Language Response
    Suggestion for Smart Reply", 2017, whose scores are dot products and not cosines over T. Copies of a row's own
    texts elsewhere in the batch are no wrong answers for it.
    """

    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForTextEncoding", "AutoModel")
    untrained: ClassVar[str] = "backbone before training"
    defines: ClassVar[Mapping[str, str]] = embed_ranking.DEFINES

    text: str | None = None
    """Column of the first text; found among the usual names where not given."""
    pair: str | None = None
    """Column of the second text; found among the usual names where not given. Predictions do without."""
    score: str | None = None
    """Column of how near the two are, for the goal `cosine`; found among the usual names where not given."""
    negative: str | None = None
    """Column of a text that is near to neither, for the goal `in_batch`; rows may leave it empty."""
    goal: Literal["cosine", "in_batch"] = "cosine"
    """What is learned: `cosine` the scores of pairs, `in_batch` to find the second text among those of the batch."""
    pooling: embed_vectors.Pooling = "mean"
    """Which states of a text's tokens are its vector: the mean, the first (BERT's [CLS]), the last (decoders)."""
    normalise: bool = True
    """Whether vectors that are given have length 1."""
    temperature: float = Field(0.05, gt=0)
    """T of the goal `in_batch`: the lower, the more the nearest wrong text counts."""
    lowest: float | None = None
    """The score that means a cosine of 0; the lowest of the training split where not given."""
    highest: float | None = None
    """The score that means a cosine of 1; the highest of the training split where not given."""
    max_length: int | None = Field(None, ge=4)
    """Most tokens of a text; the model's limit, at most 512, where not given."""

    _lowest: float = PrivateAttr(default=0.0)
    _highest: float = PrivateAttr(default=1.0)
    _length: int = PrivateAttr(default=USUAL_LENGTH)
    _ranked: embed_ranking.Ranked = PrivateAttr(default_factory=embed_ranking.Ranked)

    @model_validator(mode="after")
    def _fits_its_goal(self) -> Embed:
        other = {"cosine": ("negative",), "in_batch": ("score", "lowest", "highest")}[self.goal]
        wrong = [name for name in other if getattr(self, name) is not None]
        if wrong:
            raise ValueError(f"goal '{self.goal}' knows no {' and no '.join(wrong)}")
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest:g} is not below highest {self.highest:g}")
        return self

    @property
    def metric(self) -> str:  # type: ignore[override]
        """The rank correlation of cosines and scores, or the mean reciprocal rank."""
        return "mrr" if self.couples else "spearman"

    @property
    def couples(self) -> bool:
        """Whether the other rows of a batch are the wrong answers."""
        return self.goal == "in_batch"

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """Columns named anchor and positive, and negative where there is one."""
        lower = {name.lower(): name for name in names}
        if not {"anchor", "positive"} <= set(lower):
            return None
        found = {"goal": "in_batch", "text": lower["anchor"], "pair": lower["positive"]}
        return {**found, "negative": lower["negative"]} if "negative" in lower else found

    def columns(self) -> list[Column]:
        """Two texts (predictions do without the second), and their score or a third text."""
        texts = [
            Column("text", self.text, TEXT_NAMES, column.text),
            Column("pair", self.pair, PAIR_NAMES, _text_or_none, optional=True),
        ]
        if self.couples:
            return [*texts, Column("negative", self.negative, ("negative",), _text_or_none, optional=True)]
        return [*texts, Column("score", self.score, SCORE_NAMES, column.number, storage="number", target=True)]

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn the scale of the scores; rows that can't be learned from raise DataError."""
        faults: list[str] = []
        low, high, pairs = np.inf, -np.inf, Counter[int]()
        for number, row in enumerate(rows, 1):
            if not row.get("pair"):
                faults.append(f"line {line_of(row) or number}: has no second text")
            elif self.couples:
                pairs[embed_ranking.key_of(row["pair"])] += 1
            else:
                low, high = min(low, row["score"]), max(high, row["score"])
        raise_faults(DataError, "These rows can't be trained on:", faults, hint="Every row needs two texts.")
        if self.couples:
            _look_at(pairs)
        else:
            self._scale(low, high)

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """Nothing of the model, which has no head; from rows the scale of the scores."""
        self.learn(rows)

    def arrange(self, rows: Rows, tokenizer: Reader, limit: int) -> Rows:
        """All rows; how long a text may be is kept for other libraries."""
        self._length = self._most(limit)
        return rows

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """The texts of each row (`parts`) with their roles and keys, and the score as a cosine."""
        given = [[(kind, row[role]) for kind, role in enumerate(ROLES) if row.get(role)] for row in rows]
        flat = [{"text": text} for texts in given for _, text in texts]
        encoded = iter(tokens.encode_texts(flat, tokenizer, self._most(limit)))
        examples = []
        for row, texts in zip(rows, given, strict=True):
            parts = [{**next(encoded), "kind": kind, "key": embed_ranking.key_of(text)} for kind, text in texts]
            example = {"parts": parts, "cut": any(part["cut"] for part in parts)}
            if row.get("pair") and (self.couples or "score" in row):
                example["target"] = 1.0 if self.couples else (row["score"] - self._lowest) / self._width
            examples.append(example)
        return examples

    def seen(self, example: Mapping[str, Any], tokenizer: Reader) -> list[Tokens]:
        """Every text of a row; none of its tokens carries loss by itself."""
        return [
            Tokens(ROLES[part["kind"]], tokenizer.convert_ids_to_tokens(ids), [False] * len(ids))
            for part in example["parts"]
            for ids in [part["input_ids"]]
        ]

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded texts [texts, time]; their roles and keys [texts]; targets [batch], the cosines that are wanted."""
        parts = [part for example in examples for part in example["parts"]]
        fields = {name: torch.tensor([part[name] for part in parts]) for name in ("kind", "key")}
        if all("target" in example for example in examples):
            fields["targets"] = torch.tensor([example["target"] for example in examples])
        return tokens.parts_batch(examples, tokenizer, fields)

    def targets(self, batch: Batch) -> float:
        """Pairs."""
        return float(len(batch.fields["targets"]))

    def loss(self, step: Step) -> Tensor:
        """The squared errors of the pairs' cosines, or the cross-entropies of finding the second texts, summed."""
        vectors, fields = functional.normalize(self._vectors(step), dim=-1), step.batch.fields
        first, second, third = (vectors[fields["kind"] == kind] for kind in range(3))
        if not self.couples:
            return embed_vectors.squared_error((first * second).sum(dim=-1), fields["targets"])
        keys = [fields["key"][fields["kind"] == kind] for kind in range(3)]
        others = torch.cat(keys[1:])
        banned = (others == keys[0][:, None]) | (others == keys[1][:, None])  # [batch, candidates]
        banned[:, : len(first)].fill_diagonal_(False)
        return embed_vectors.in_batch_loss(first, torch.cat([second, third]), self.temperature, banned)

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Cosines [batch] (NaN without a second text); with the goal `in_batch` the two vectors and the key of the
        second text [batch, 2, hidden + 1]. A line shows the cosine, or the vector of one text alone.
        """
        vectors, fields = self._vectors(step), step.batch.fields
        given = functional.normalize(vectors, dim=-1) if self.normalise else vectors
        shown = given.double().cpu().numpy()
        owners, kinds, keys = (fields[name].cpu().numpy() for name in ("owners", "kind", "key"))
        both = np.full((int(owners.max()) + 1, 2, shown.shape[1] + 1), np.nan)
        for kind in (0, 1):
            both[owners[kinds == kind], kind] = np.column_stack([shown, keys])[kinds == kind]
        cosines = embed_vectors.cosines(both[:, 0, :-1], both[:, 1, :-1])
        told = map(embed_vectors.shown, cosines, both[:, 0, :-1])
        lines = [{"prediction": one} for one in told]
        return (both if self.couples else cosines), lines

    def reread(self, lines: Sequence[Row]) -> np.ndarray | None:
        """Cosines [rows]; None with the goal `in_batch`, where lines tell no vectors of second texts."""
        return None if self.couples else np.array([line["prediction"] for line in lines], dtype=np.float64)

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """The scores [rows]; with the goal `in_batch` a direction of its own for each second text, twice, and its key
        [rows, 2, 9]. A row without a second text raises DataError.
        """
        found = []
        for row in rows:
            if not row.get("pair"):
                raise DataError("has no second text.", hint="Every row needs two texts to be measured.")
            if self.couples:
                key = embed_ranking.key_of(row["pair"])
                found.append([[*embed_ranking.ideal(key), key]] * 2)
            else:
                found.append(row["score"])
        return np.array(found, dtype=np.float64)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Spearman's and Pearson's correlation of cosines and scores; or how far ahead the right second texts are."""
        if self.couples:
            return embed_ranking.metrics(self._ranked.of(truths, answers))
        return {"spearman": agreement.spearman(truths, answers), "pearson": agreement.pearson(truths, answers)}

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """Cosines against scores, or how many right texts stand at which place."""
        if self.couples:
            ranks = self._ranked.of(truths, answers)
            counts = [float(((ranks >= low) & (ranks <= high)).sum()) for low, high, _ in PLACES]
            return [Bars("Place of the right text", [name for *_, name in PLACES], {"rows": counts}, x="place")]
        every = max(1, len(truths) // DRAWN_POINTS)
        xs, ys = truths[::every].tolist(), answers[::every].tolist()
        return [Points("Cosine against score", xs, ys, x="score", y="cosine")]

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Pairs by how far the cosine is off; or right texts that are not first, the farthest behind first."""
        if self.couples:
            ranks = self._ranked.of(truths, answers)
            return np.argsort(-ranks, kind="stable")[: int((ranks > 1).sum())]
        wanted = (truths - self._lowest) / self._width
        return np.argsort(-np.abs(wanted - answers), kind="stable")

    def companions(self, model: nn.Module) -> dict[str, Any]:
        """What sentence-transformers reads: which states are pooled, how long texts may be."""
        hidden = int(cast(PreTrainedModel, model).config.hidden_size)
        return embed_vectors.companions(hidden, self.pooling, self.normalise, self._length)

    def state(self) -> dict[str, Any]:
        """The scale of the scores, and how many tokens a text may have."""
        return {"lowest": self._lowest, "highest": self._highest, "length": self._length}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._lowest, self._highest = float(state["lowest"]), float(state["highest"])
        self._length = int(state["length"])

    @property
    def _width(self) -> float:
        return self._highest - self._lowest

    def _most(self, limit: int) -> int:
        return min(self.max_length or USUAL_LENGTH, limit)

    def _vectors(self, step: Step) -> Tensor:
        """The vector of every text [texts, hidden]."""
        return embed_vectors.pool(step.outputs.last_hidden_state, step.batch.inputs["attention_mask"], self.pooling)

    def _scale(self, low: float, high: float) -> None:
        """Settle which scores mean 0 and 1. Scores beyond those of the recipe raise DataError."""
        self._lowest = low if self.lowest is None else self.lowest
        self._highest = high if self.highest is None else self.highest
        if low < self._lowest or high > self._highest or self._width <= 0:
            raise DataError(
                f"The scores of the training split go from {low:g} to {high:g}, which the scale from "
                f"{self._lowest:g} to {self._highest:g} can't hold.",
                hint="Set task.lowest and task.highest to the ends of your scale.",
            )
        note(f"Scores from {self._lowest:g} to {self._highest:g} stand for cosines from 0 to 1.")


def _look_at(pairs: Counter[int]) -> None:
    """Say how many second texts repeat; where all are one, nothing can be learned: DataError."""
    repeated = sum(count for count in pairs.values() if count > 1)
    if len(pairs) < 2:
        raise DataError(
            f"The second text is the same in all {repeated:,} training rows: there is no wrong one to tell it from.",
            hint="Give rows with other second texts.",
        )
    if repeated:
        note(f"{repeated:,} training rows share their second text with another: they are no wrong answers there.")


def _text_or_none(value: object) -> str | None:
    return None if value is None or value == "" else column.text(value)
