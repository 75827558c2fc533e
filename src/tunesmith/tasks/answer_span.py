"""Extractive question answering: the answer is a span of the context, or there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from tunesmith.core import column, tokens
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, ModelError
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Panel, Tokens
from tunesmith.core.part import Reader, Task
from tunesmith.core.rows import Rows, blocks, take
from tunesmith.core.step import Batch, Step
from tunesmith.tasks import span_rows, span_scores, span_windows
from tunesmith.tasks.span_answers import CONSIDERED, Found, answers_of, read, shown

QUESTION_NAMES = ("question", "query")
CONTEXT_NAMES = ("context", "passage", "paragraph", "document")
ANSWER_NAMES = ("answers", "answer")
USUAL_LENGTH, USUAL_QUESTION = 384, 64


def span_losses(starts: Tensor, ends: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The loss of every window: the mean of the cross-entropies of its start and its end, in float32.

    starts, ends (logits) and mask (1 where there is no padding): [windows, time]; targets [windows, 2]: [windows].
    """
    both = torch.stack([starts, ends], dim=1).float().masked_fill(mask[:, None] == 0, -torch.inf)
    losses = functional.cross_entropy(both.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(-1, 2).mean(dim=1)


class AnswerSpan(Task):
    """Find the answer to a question in a text, as a span of it, or say that it holds none.

    Formula: loss = -(log p_start(i) + log p_end(j)) / 2, p = softmax over the tokens of a window; answer the span i..j
    with the greatest s_i + e_j over all windows, none where s_0 + e_0 - (s_i + e_j) > t.
    Symbols: s, e start and end logits, i and j the answer's first and last token, 0 the window's first token, where
    windows without the answer point, t the threshold, the best on the validation split. Shapes: logits [windows, time].
    Paper: Devlin et al., "BERT", 2019, sections 4.2 and 4.3; metrics of Rajpurkar et al., "SQuAD", 2016, and "Know
    What You Don't Know", 2018. We leave padding out of the softmax.
    """

    metric: ClassVar[str] = "f1"
    defines: ClassVar[Mapping[str, str]] = span_scores.DEFINES
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForQuestionAnswering",)

    question: str | None = None
    """Column of the question; found among the usual names where not given."""
    context: str | None = None
    """Column of the text that holds the answer; found among the usual names where not given."""
    answers: str | None = None
    """Column of the answers; found among the usual names where not given."""
    no_answer: bool | None = None
    """Whether a question may have no answer; where not given, whether one of the training split has none."""
    threshold: float | None = None
    """How much better no answer must score to be given; where not given, chosen on the validation split."""
    max_length: int | None = Field(None, ge=16)
    """Most tokens of a window; the model's limit, at most 384, where not given."""
    stride: int | None = Field(None, ge=0)
    """Tokens of the context that a window shares with the one before; a third of a window where not given."""
    question_length: int | None = Field(None, ge=1)
    """Most tokens of a question; 64, at most a third of a window, where not given."""
    longest: int = Field(30, ge=1)
    """Most tokens of an answer that is given."""
    candidates: int = Field(5, ge=1)
    """How many of the likeliest spans a line of the predictions shows."""

    _silent: bool = PrivateAttr(default=False)
    _chosen: float = PrivateAttr(default=0.0)

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """Columns named question, context and answers, whose answers stand in their contexts in most rows; the others
        are faults of the file.
        """
        lower = {name.lower(): name for name in names}
        wanted = {"question": QUESTION_NAMES, "context": CONTEXT_NAMES, "answers": ANSWER_NAMES}
        found = {role: next((lower[name] for name in likely if name in lower), None) for role, likely in wanted.items()}
        if None in found.values() or not rows:
            return None
        placed = [span_rows.placed(*(row.get(name or "") for name in found.values())) for row in rows]
        good = [one for one in placed if one is not None]
        return dict(found) if 2 * len(good) > len(rows) and any(good) else None

    def columns(self) -> list[Column]:
        """Question, context and answers."""
        return [
            Column("question", self.question, QUESTION_NAMES, column.text),
            Column("context", self.context, CONTEXT_NAMES, column.text),
            Column("answers", self.answers, ANSWER_NAMES, span_rows.parse, storage="spans", target=True),
        ]

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn whether questions may have no answer. Answers that don't stand in their context raise DataError."""
        counts = span_rows.survey(rows)
        self._silent = self._allowed(counts.silent, counts.rows)
        if counts.silent:
            note(f"{counts.silent:,} of {counts.rows:,} training questions have no answer.")
        if counts.unplaced:
            note(
                f"{counts.unplaced:,} training questions have an answer without an offset: "
                "it is taken where its text first occurs."
            )
        if counts.several:
            note(f"{counts.several:,} training questions have several answers: the first is trained on.")

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """Nothing of the head; from rows, or the recipe, whether questions may have no answer."""
        self._silent = bool(span_rows.survey(rows).silent) if self.no_answer is None else self.no_answer

    def arrange(self, rows: Rows, tokenizer: Reader, limit: int) -> Rows:
        """The rows whose answer fits into a window; the others are dropped, and said."""
        sizes: list[int] = []
        lost: list[int] = []
        for block in blocks(rows):
            for row, example in zip(block, self.encode(block, tokenizer, limit), strict=True):
                if row["answers"] and not example["answer_tokens"]:
                    lost.append(len(sizes))
                sizes.append(example["answer_tokens"])
        long = sum(size > self.longest for size in sizes)
        if long:
            warn(f"{long:,} training answers have more than task.longest={self.longest} tokens: they can't be given.")
        return self._without(rows, lost, any(sizes)) if lost else rows

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """The windows of each row (`parts`), each with the characters of its context tokens and the tokens where its
        answer starts and ends: of the first answer, where there are several.
        """
        if not tokenizer.is_fast:
            raise ModelError(
                f"{type(tokenizer).__name__} does not tell which characters a token holds, which this task needs.",
                hint="Use a backbone with a fast tokenizer (a file tokenizer.json).",
            )
        shape = self._shape(limit)
        questions, contexts = [row["question"] for row in rows], [row["context"] for row in rows]
        encoded = span_windows.encode(questions, contexts, tokenizer, shape.question)
        classifier = tokenizer.cls_token_id
        return [span_windows.example(row, one, shape, classifier) for row, one in zip(rows, encoded, strict=True)]

    def seen(self, example: Mapping[str, Any], tokenizer: Reader) -> list[Tokens]:
        """Every window, with the two tokens that it points at."""
        count = len(example["parts"])
        return [
            Tokens(
                f"window {number} of {count}",
                tokenizer.convert_ids_to_tokens(part["input_ids"]),
                [place in part.get("target", []) for place in range(len(part["input_ids"]))],
            )
            for number, part in enumerate(example["parts"], 1)
        ]

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded windows [windows, time]; targets [windows, 2]; what decoding needs: the characters of every token
        [windows, time, 2] (0, 0 outside the context), the token of no answer [windows], the contexts [batch, longest].
        """
        parts = [part for example in examples for part in example["parts"]]
        longest = max(len(part["input_ids"]) for part in parts)
        fields = {
            "characters": torch.tensor(
                [part["characters"] + [[0, 0]] * (longest - len(part["characters"])) for part in parts]
            ),
            "silence": torch.tensor([part["silence"] for part in parts]),
            "contexts": tokens.code_points([example["context"] for example in examples]),
        }
        if "target" in parts[0]:
            fields["targets"] = torch.tensor([part["target"] for part in parts])
        return tokens.parts_batch(examples, tokenizer, fields)

    def targets(self, batch: Batch) -> float:
        """Windows."""
        return float(len(batch.fields["targets"]))

    def loss(self, step: Step) -> Tensor:
        """The windows' losses, summed."""
        mask, targets = step.batch.inputs["attention_mask"], step.batch.fields["targets"]
        return span_losses(step.outputs.start_logits, step.outputs.end_logits, targets, mask).sum()

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Answers [batch, 3] (the text given, the best text there is, how much better no answer scores), and the
        likeliest spans.
        """
        starts, ends, fields = step.outputs.start_logits, step.outputs.end_logits, step.batch.fields
        found = read(starts, ends, fields, max(self.candidates, CONSIDERED), self.longest)
        bound = self._chosen if self.threshold is None else self.threshold
        lines = [shown(one, bound, self._silent, self.candidates) for one in found]
        given = [line["prediction"] for line in lines]
        return answers_of(_answer(*one) for one in zip(given, found, strict=True)), lines

    def reread(self, lines: Sequence[Row]) -> np.ndarray:
        """The texts given [rows, 3]; how much better no answer scored is not told."""
        return answers_of((line["prediction"], (line["prediction"],), np.nan) for line in lines)

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """The first right text, all of them, and whether there is none: [rows, 3]. What doesn't stand in its context
        raises DataError.
        """
        found = []
        for row in rows:
            try:
                span_rows.place(row["context"], row["answers"])
            except ValueError as error:
                raise DataError(f"answers: {error}.") from None
            texts = tuple(answer["text"] for answer in row["answers"])
            found.append((texts[0] if texts else "", texts, -np.inf if texts else np.inf))
        silent = sum(not texts for _, texts, _ in found)
        if silent and not self._silent:
            told = f"{silent:,} of {len(found):,} questions have no answer"
            warn(f"{told}, which a model that learned from none such never says: they count as wrong.")
        return answers_of(found)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Exact match and F1 of words, means over rows; where questions may have no answer, also of those that have
        one, and the share of the others that were given none.
        """
        return span_scores.metrics(truths, answers, split=self._silent)

    def settle(self, truths: np.ndarray, answers: np.ndarray) -> None:
        """Choose the threshold of no answer that gives the highest F1."""
        if not self._silent or self.threshold is not None:
            return
        best = np.array([texts[0] if texts else "" for texts in answers[:, 1]], dtype=object)
        answered = span_scores.of_rows(truths, best)[:, 1]
        silent = span_scores.of_rows(truths, np.full(len(best), "", dtype=object))[:, 1]
        differences = answers[:, 2].astype(np.float64)
        self._chosen = span_scores.best_threshold(differences, answered, silent)
        f1 = np.where(differences <= self._chosen, answered, silent).mean()
        note(f"No answer is given where it scores above the best span by {self._chosen:.3f}: validation F1 {f1:.3f}.")

    def constant(self) -> tuple[str, Any] | None:
        """No answer, where questions may have none."""
        return ("no answer", answers_of([("", (), np.inf)])[0]) if self._silent else None

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """How good the answers are by the length of the right one; where there may be none, how often that was seen."""
        panels: list[Panel] = [span_scores.by_length(truths, answers)]
        return [*panels, span_scores.withheld(truths, answers)] if self._silent else panels

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Answers that are not exact, those that share the fewest words first, the most confident of them first."""
        found = span_scores.of_rows(truths, answers[:, 0])
        wrong = np.flatnonzero(found[:, 0] == 0)
        return wrong[np.lexsort((-confidences[wrong], found[wrong, 1]))]

    def state(self) -> dict[str, Any]:
        """Whether there may be no answer, and the threshold."""
        return {"no_answer": self._silent, "threshold": self._chosen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._silent, self._chosen = bool(state["no_answer"]), float(state["threshold"])

    def _allowed(self, silent: int, total: int) -> bool:
        """Whether questions may have no answer, as recipe and training split say. Raises DataError where they don't
        agree, or where no question has one.
        """
        if silent == total:
            raise DataError(f"None of the {total:,} training questions has an answer: there is nothing to learn.")
        if self.no_answer is False and silent:
            raise DataError(
                f"{silent:,} of {total:,} training questions have no answer, but task.no_answer is false.",
                hint="Leave task.no_answer out, or take these rows away.",
            )
        if self.no_answer and not silent:
            warn("task.no_answer is true, but every training question has an answer: the model can't learn it.")
        return bool(self.no_answer or silent)

    def _shape(self, limit: int) -> span_windows.Shape:
        length = min(self.max_length or USUAL_LENGTH, limit)
        third = length // 3
        question = min(USUAL_QUESTION, third) if self.question_length is None else self.question_length
        return span_windows.Shape(length, third if self.stride is None else self.stride, question)

    def _without(self, rows: Rows, lost: list[int], left: bool) -> Rows:
        first = span_windows.named(take(rows, [lost[0]])[0])
        told = f"{len(lost):,} of {len(rows):,} training answers fit into no window, such as that of {first}"
        if not left:
            raise DataError(f"{told}: nothing is left to learn.", hint="Raise task.max_length or task.stride.")
        warn(f"{told}: these rows are dropped. A greater task.max_length or task.stride keeps them.")
        dropped = set(lost)
        return cast(Rows, cast(Mapped, rows).select([place for place in range(len(rows)) if place not in dropped]))


def _answer(given: str, one: Found) -> tuple[str, tuple[str, ...], float]:
    return given, one.texts[:1], one.difference
