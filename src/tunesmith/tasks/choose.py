"""Multiple choice: of the answers that a question comes with, the right one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from tunesmith.core import column, tokens
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError
from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Bars, Panel, Tokens
from tunesmith.core.part import Reader, Task
from tunesmith.core.rows import Rows, blocks
from tunesmith.core.step import Batch, Step
from tunesmith.tasks import choose_labels
from tunesmith.tasks.choose_labels import FORMS, SHOWN, Form, choices, place_of

QUESTION_NAMES = ("question", "text", "prompt", "query", "stem", "sentence", "premise")
CONTEXT_NAMES = ("context", "passage", "article", "paragraph", "story")
CHOICE_NAMES = ("choices", "options", "alternatives", "endings", "candidates")
LABEL_NAMES = ("label", "answer", "correct", "answerkey", "right", "gold", "target")
ENOUGH = 20
"""From so many rows on it is remarkable that no label is 0."""


class Choose(Task):
    """Give a question with any number of choices the right one.

    Formula: s_k = head(backbone(c; q; a_k)), p(k) = softmax over the row's own choices of s_k, loss -log p(k).
    Symbols: c the context (where there is one), q the question, a_k choice k. Shapes: scores [batch, most choices],
    where choices that a row has not are minus infinity; the model sees [choices of all rows, time].
    Paper: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, section 3.3, for
    decoders; Devlin et al., "BERT", 2019, section 4.4, for encoders. As there, one linear layer scores every choice.
    Both are transformers' model for sequences with one output, and not its model for multiple choice, which has the
    same layers but takes the same number of choices for every row, and no decoder. With a context, the question stands
    before each choice in the second text, as BERT's users have it for SWAG and RACE.
    """

    metric: ClassVar[str] = "accuracy"
    defines: ClassVar[Mapping[str, str]] = {"accuracy": "The share of rows whose right choice was given."}
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)

    text: str | None = None
    """Column of the question; found among the usual names where not given."""
    context: str | None = None
    """Column of a text that the question is about; of it alone the end is cut where a row is too long."""
    choices: str | None = None
    """Column of the choices, a list; found among the usual names where not given."""
    label: str | None = None
    """Column of the right choice; found among the usual names where not given."""
    form: Form | None = None
    """What a label is: a choice's `number` from 0, its `letter` from A, or its `text`; what fits, where not given."""
    max_length: int | None = Field(None, ge=8)
    """Most tokens of a question with one choice; the model's limit, at most 512, where not given."""

    _form: Form = PrivateAttr(default="number")
    _position: int = PrivateAttr(default=0)

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """A column named like choices that holds lists of texts, a question, and a label that names one of them in most
        rows; the others are faults of the file.
        """
        free = {name.lower(): name for name in names}
        found = {
            role: free.pop(next((name for name in likely if name in free), ""), None)
            for role, likely in (
                ("choices", CHOICE_NAMES), ("label", LABEL_NAMES), ("text", QUESTION_NAMES), ("context", CONTEXT_NAMES)
            )
        }  # fmt: skip
        if None in (found["choices"], found["label"], found["text"]) or not rows:
            return None
        fits = any(2 * sum(choose_labels.fits(row, found, form) for row in rows) > len(rows) for form in FORMS)
        return {role: name for role, name in found.items() if name} if fits else None

    def columns(self) -> list[Column]:
        """Question, choices, the right one, and a context if the recipe names one."""
        found = [Column("text", self.text, QUESTION_NAMES, column.text)]
        if self.context is not None:
            found.append(Column("context", self.context, CONTEXT_NAMES, column.text))
        return [
            *found,
            Column("choices", self.choices, CHOICE_NAMES, choices, storage="texts"),
            Column("label", self.label, LABEL_NAMES, column.label, target=True),
        ]

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn what form the labels have, and which position is right most often. Labels that fit no form, or two
        that disagree, raise DataError.
        """
        self._form, places = choose_labels.learn(rows, self.form)
        self._position = places.most_common(1)[0][0]
        if self.form is None:
            note(f"Labels are read as a choice's {self._form}.")
        if self._form == "number" and places.total() >= ENOUGH and 0 not in places:
            warn(f"None of the {places.total():,} labels is 0: numbers of choices count from 0, not from 1.")

    def head(self) -> dict[str, Any]:
        """One output: the score of a choice."""
        return {"num_labels": 1, "id2label": {0: "choice"}, "label2id": {"choice": 0}}

    def arrange(self, rows: Rows, tokenizer: Reader, limit: int) -> Rows:
        """The rows as they are. Choices that are longer than the limit raise DataError, all of them together."""
        faults = [
            fault
            for block in blocks(rows)
            for fault in tokens.unfit(list(_sequences(block)), tokenizer, self._limit(limit))
        ]
        tokens.raise_unfit(faults)
        return rows

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """A sequence a choice; the number of the right one. What is too long loses the end of its context, or of its
        question where it has no context, and never of a choice.
        """
        encoded = iter(tokens.encode_texts(list(_sequences(rows)), tokenizer, self._limit(limit), keep_pair=True))
        examples = []
        for row in rows:
            parts = [next(encoded) for _ in row["choices"]]
            examples.append({"parts": parts, "choices": row["choices"], "cut": any(part.pop("cut") for part in parts)})
        if rows and "label" in rows[0]:
            for example, target in zip(examples, self.truths(rows).tolist(), strict=True):
                example["target"] = target
        return examples

    def seen(self, example: Mapping[str, Any], tokenizer: Reader) -> list[Tokens]:
        """A sequence a choice; the loss is one of the whole row, at no position of its own."""
        parts = super().seen(example, tokenizer)
        return [replace(part, name=f"choice {place}") for place, part in enumerate(parts)]

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded ids [choices of all rows, time]; targets [batch]; the choices' texts."""
        fields = {"texts": tokens.code_points([choice for example in examples for choice in example["choices"]])}
        if "target" in examples[0]:
            fields["targets"] = torch.tensor([example["target"] for example in examples])
        return tokens.parts_batch(examples, tokenizer, fields)

    def targets(self, batch: Batch) -> float:
        """Rows."""
        return float(len(batch.fields["targets"]))

    def loss(self, step: Step) -> Tensor:
        """Summed cross-entropy over each row's own choices."""
        return functional.cross_entropy(_scores(step), step.batch.fields["targets"], reduction="sum")

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Numbers of choices [batch]; shown in the form of the training file's labels, with a share for each choice."""
        shares = _scores(step).softmax(dim=-1).cpu().numpy()  # [batch, most choices]
        texts = tokens.texts_of(step.batch.fields["texts"])
        owners = step.batch.fields["owners"].cpu().numpy()
        rows = [np.flatnonzero(owners == row) for row in range(len(shares))]
        lines = [
            self._shown([texts[place] for place in places], share[: len(places)])
            for places, share in zip(rows, shares, strict=True)
        ]
        return shares.argmax(axis=-1), lines

    def reread(self, lines: Sequence[Row]) -> np.ndarray:
        """Numbers of the choices given [rows]; of equal texts the first."""
        return self.truths({"label": str(line["prediction"]).strip(), "choices": line["choices"]} for line in lines)

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """Numbers of the right choices [rows]; a label that names none raises DataError."""
        places = []
        for row in rows:
            place = place_of(row["label"], row["choices"], self._form)
            if place is None:
                raise DataError(choose_labels.sentence(row, self._form), hint="The training file's labels are read so.")
            places.append(place)
        return np.array(places, dtype=np.int64)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """The share of rows whose right choice was given."""
        return {"accuracy": float((truths == answers).mean())}

    def constant(self) -> tuple[str, Any]:
        """The position that is right most often in the training split."""
        return "most frequent position", self._position

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """How often each position is right, and given."""
        most = int(max(truths.max(), answers.max())) + 1
        counts = {
            name: np.bincount(places, minlength=most).astype(float).tolist()
            for name, places in (("right", truths), ("given", answers))
        }
        return [Bars("Choices by position", [str(place) for place in range(most)], counts, x="position", y="rows")]

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Wrong answers, the most confident first."""
        wrong = np.flatnonzero(truths != answers)
        return wrong[np.argsort(-confidences[wrong], kind="stable")]

    def state(self) -> dict[str, Any]:
        """The labels' form and the most frequent position."""
        return {"form": self._form, "position": self._position}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what was learned."""
        self._form, self._position = state["form"], int(state["position"])

    def _limit(self, limit: int) -> int:
        return min(self.max_length or 512, limit)

    def _shown(self, texts: list[str], shares: np.ndarray) -> dict[str, Any]:
        best = int(shares.argmax())
        given = {"number": best, "letter": chr(ord("A") + best), "text": texts[best]}[self._form]
        keys = [text[:SHOWN] for text in texts]
        keys = [f"{key} ({place})" if keys.count(key) > 1 else key for place, key in enumerate(keys)]
        scores = {key: round(float(share), 6) for key, share in zip(keys, shares, strict=True)}
        return {"prediction": given, "confidence": round(float(shares[best]), 6), "scores": scores}


def _scores(step: Step) -> Tensor:
    """The model's numbers [choices of all rows, 1] as [batch, most choices], minus infinity where a row has fewer."""
    flat, owners = step.outputs.logits.float().squeeze(-1), step.batch.fields["owners"]
    counts = owners.bincount()  # [batch]
    places = torch.arange(len(owners), device=owners.device) - (counts.cumsum(0) - counts)[owners]
    scores: Tensor = flat.new_full((len(counts), int(counts.max())), -torch.inf).index_put((owners, places), flat)
    return scores


def _sequences(rows: Iterable[Row]) -> Iterable[Row]:
    """A row a choice: what may be cut as its text, what may not as its pair."""
    for row in rows:
        for choice in row["choices"]:
            whole = f"{row['text']} {choice}" if "context" in row else choice
            yield {**row, "text": row.get("context", row["text"]), "pair": whole}
