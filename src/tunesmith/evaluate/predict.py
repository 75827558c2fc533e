"""Predict a split in bounded memory: one batch at a time, sorted by length; no pile of logits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.core import anatomy
from tunesmith.core import rows as split
from tunesmith.core.column import Row
from tunesmith.core.files import writing
from tunesmith.core.finished import Predictions
from tunesmith.core.part import Task
from tunesmith.core.rows import Rows
from tunesmith.core.step import Batch, Step
from tunesmith.evaluate import features

BATCH = 64
TOKENS = 4096
"""Most rows that go through the model at once, unless more of them have no more tokens than this."""
POSITIONS = 64 * 512
SCORES = 1 << 28
"""Most positions, padded ones too, and most scores of words (positions times vocabulary) at once; a longer row goes
alone.
"""
Examples = list[dict[str, Any]]


@dataclass(frozen=True)
class Predictor:
    """A model with all that it takes to answer rows.

    precision: the type of the matrix products (torch's autocast), float32 for none.
    asked: whether somebody waits for the answers themselves, and not for what they are worth: every row is answered.
    temperature: what scores of classes are divided by before they are told as probabilities.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    task: Task
    limit: int
    precision: str = "float32"
    asked: bool = False
    temperature: float = 1.0

    def predict(
        self, rows: Rows, *, out: Path | None = None, each: Callable[[dict[str, Any]], object] | None = None
    ) -> Predictions:
        """Answer every row, in order; each line goes to `each`, or to the file `out` as JSON, atomically.

        The loss is a mean over targets; NaN where the rows have none.
        """
        if out is None:
            return self._predict(rows, each)
        with writing(out) as temporary, temporary.open("w", encoding="utf-8") as stream:
            return self._predict(rows, lambda line: stream.write(json.dumps(line, ensure_ascii=False) + "\n"))

    @torch.inference_mode()
    def _predict(self, rows: Rows, write: Callable[[dict[str, Any]], object] | None) -> Predictions:
        training = self.model.training
        self.model.eval()
        answers, confidences, loss, targets, cut = [], [], 0.0, 0.0, 0
        for window, examples in self._encoded(rows):
            found, shown, window_loss, window_targets = self._window(examples)
            answers.append(found)
            confidences += [line.get("confidence", float("nan")) for line in shown]
            loss, targets = loss + window_loss, targets + window_targets
            # A row may be whole where it is measured, and lose its beginning where it is answered: its line says so.
            cut += sum(bool(one.get("cut") or line.get("cut")) for one, line in zip(examples, shown, strict=True))
            if write is not None:
                for row, line in zip(window, shown, strict=True):
                    write({**row, **line})
        self.model.train(training)
        mean = loss / targets if targets else float("nan")
        return Predictions(np.concatenate(answers), np.array(confidences), mean, cut)

    def _encoded(self, rows: Rows) -> Iterator[tuple[list[Row], Examples]]:
        """Rows and their examples, a block at a time: while one is answered, the next is encoded."""
        if len(rows) <= split.BLOCK:
            yield from ((block, self.task.encode(block, self.tokenizer, self.limit)) for block in split.blocks(rows))
            return
        # Its own copy: tokenizers refuse to be used by two threads at once.
        own = deepcopy(self.tokenizer)
        waiting = ((block, self.task.encode(block, own, self.limit)) for block in split.blocks(rows))
        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(next, waiting, None)
            while (found := following.result()) is not None:
                following = thread.submit(next, waiting, None)
                yield found

    def _window(self, examples: Examples) -> tuple[np.ndarray, list[dict[str, Any]], float, float]:
        if self.asked:
            examples = [{**example, "asked": True} for example in examples]
        device = anatomy.device_of(self.model)
        with self._autocast(device):
            examples = self.task.ahead(self.model, examples, self.tokenizer)
        answers: list[Any] = [None] * len(examples)
        shown: list[dict[str, Any]] = [{} for _ in examples]
        loss = targets = 0.0
        for places, batch in self._batches(examples):
            with self._autocast(device):
                step = Step(self.model, self.task, batch)
                found, lines = self.task.decode(self._tempered(step), self.tokenizer)
            if "targets" in batch.fields:
                loss += self.task.loss(step).item()
                targets += self.task.targets(batch)
            for place, answer, line in zip(places, found, lines, strict=True):
                answers[place], shown[place] = answer, line
        return _stacked(answers), shown, loss, targets

    def _tempered(self, step: Step) -> Step:
        """The step with its scores divided by the temperature; its loss is left as it was."""
        if self.temperature == 1:
            return step
        tempered = Step(step.model, step.task, step.batch)
        tempered.outputs = copy(step.outputs)
        tempered.outputs.logits = step.outputs.logits / self.temperature
        return tempered

    def scores(self, rows: Rows) -> np.ndarray | None:
        """The model's scores of classes before any softmax, [rows, classes], float32; None where the task has none."""

        def of(batch: Batch) -> Tensor | None:
            return self.task.scores(Step(self.model, self.task, batch))

        return self._gathered(rows, of)

    def features(self, rows: Rows, *, layers: bool = False) -> np.ndarray:
        """What the backbone makes of rows: the mean of the last states over the tokens, [rows, hidden], float32; with
        `layers` those of the embeddings and of every block, [rows, 1 + blocks, hidden].
        """
        found = self._gathered(rows, lambda batch: features.of_batch(self.model, batch, layers=layers))
        assert found is not None
        return found

    @torch.inference_mode()
    def _gathered(self, rows: Rows, of: Callable[[Batch], Tensor | None]) -> np.ndarray | None:
        """What `of` makes of every row, in order, in float32."""
        training, device = self.model.training, anatomy.device_of(self.model)
        self.model.eval()
        gathered = []
        for _, examples in self._encoded(rows):
            found: list[Any] = [None] * len(examples)
            for places, batch in self._batches(examples):
                with self._autocast(device):
                    made = of(batch)
                if made is None:
                    return None
                for place, one in zip(places, made.float().cpu().numpy(), strict=True):
                    found[place] = one
            gathered.append(np.stack(found))
        self.model.train(training)
        return np.concatenate(gathered)

    def _batches(self, examples: Examples) -> Iterator[tuple[list[int], Batch]]:
        """Places and batches of examples of like size, in bounded memory."""
        sizes = np.array([self.task.size(example) for example in examples])
        words = anatomy.output_layer(self.model)
        most = POSITIONS if words is None else min(POSITIONS, SCORES // len(cast(Tensor, words.weight)))
        device = anatomy.device_of(self.model)
        for places in portions(sizes, most):
            yield places, self.task.collate([examples[place] for place in places], self.tokenizer).to(device)

    def _autocast(self, device: torch.device) -> torch.autocast:
        dtype = torch.float16 if self.precision == "float16" else torch.bfloat16
        return torch.autocast(device.type, dtype=dtype, enabled=self.precision != "float32")


def portions(sizes: np.ndarray, most: int) -> Iterator[list[int]]:
    """Places of rows by size, the largest first, in portions of at most BATCH rows or TOKENS tokens, and of `most`
    padded positions.
    """
    portion: list[int] = []
    tokens = 0
    for place in np.argsort(-sizes, kind="stable").tolist():
        tokens += sizes[place]
        full = len(portion) >= BATCH and tokens > TOKENS
        # The first is the largest: all are padded to it.
        if portion and (full or (len(portion) + 1) * sizes[portion[0]] > most):
            yield portion
            portion, tokens = [], sizes[place]
        portion.append(place)
    if portion:
        yield portion


def _stacked(answers: list[Any]) -> np.ndarray:
    """One array of the rows' answers; objects stay objects, whatever they look like."""
    first = np.asarray(answers[0]) if isinstance(answers[0], np.ndarray | np.generic) else None
    if first is not None and first.dtype != object:
        return np.array(answers)
    shape = (len(answers), *(() if first is None else first.shape))
    stacked = np.empty(shape, dtype=object)
    for place, answer in enumerate(answers):
        stacked[place] = answer
    return stacked
