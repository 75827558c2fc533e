"""Masked language modelling on raw text: words are hidden, and the model says which they were."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from tunesmith.core import column, tokens, words
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, ModelError
from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Bars, Panel, Tokens
from tunesmith.core.part import Reader, Task
from tunesmith.core.rows import Rows, each
from tunesmith.core.step import Batch, Step
from tunesmith.core.tokens import IGNORED
from tunesmith.core.words import Words
from tunesmith.tasks import blocks, fill_masks

USUAL_LENGTH = 512
CANDIDATES = 5
DRAWN_BARS = 30


class Fill(Task):
    """Say which words were hidden in raw text: pre-training goes on in the language of a domain or of a task.

    Formula: loss = -sum over t in M of log p(x_t | x~); perplexity = exp(loss / |M|).
    Symbols: x the tokens of a block; M the positions of the words that were chosen; x~ the block in which of M 80 % of
    the tokens are the mask, 10 % random tokens and 10 % as they were, drawn anew in every epoch. Shapes: logits
    [parts, time, vocabulary], targets [parts, time].
    Paper: Devlin et al., "BERT", 2019, section 3.1, with its later masking of whole words; Gururangan et al., "Don't
    Stop Pretraining", 2020. We choose a share of the words, each equally likely, where Devlin et al. draw words until
    a share of the tokens is reached; there is no second loss on pairs of sentences. What is measured is drawn once for
    every text, and every chosen token is masked.
    """

    metric: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForMaskedLM",)
    untrained: ClassVar[str] = "backbone before training"
    defines: ClassVar[Mapping[str, str]] = {
        "perplexity": "exp of the mean loss of a hidden token: among how many tokens the model is as good as "
        "undecided. Lower is better.",
        "accuracy": "The share of hidden tokens that were told right.",
        "word_perplexity": "exp of the loss a hidden word. Lower is better.",
    }

    text: str | None = None
    """Column of the text; found among the usual names where not given."""
    share: float = Field(0.15, gt=0, lt=1)
    """Share of the words that are hidden."""
    whole_words: bool = True
    """Whether words are hidden whole, or their tokens one by one."""
    join: bool = False
    """Whether rows run on into one text that is cut into full blocks; else each row is cut by itself."""
    max_length: int | None = Field(None, ge=8)
    """Most tokens of a block; the model's limit, at most 512, where not given."""

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """A file with a column of text and nothing else, as plain text files are."""
        return {"text": names[0]} if [name.lower() for name in names] == ["text"] else None

    def columns(self) -> list[Column]:
        """The text alone: what is to be predicted is hidden in it."""
        return [Column("text", self.text, column.TEXT_NAMES, column.text)]

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """Nothing: the head gives words."""

    def arrange(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, limit: int) -> Rows:
        """The split cut into blocks; those without a word are left out and said, and nothing else raises DataError."""
        _mask(tokenizer)
        length = self._length(limit)
        found, special = blocks.blocks(rows, tokenizer, length, self.join), frozenset(tokenizer.all_special_ids)
        good: list[tuple[int, int]] = []
        bad: list[tuple[int, int]] = []
        for place, block in enumerate(each(found)):
            held = any(token not in special for token in block["input_ids"])
            (good if held else bad).append((place, block["line"]))
        note(f"{len(rows):,} rows of text make {len(found):,} blocks of at most {length} tokens.")
        if not good:
            raise DataError(
                f"There is nothing to learn: none of {len(found)} blocks holds a token that could be hidden, the one "
                f"that begins in line {bad[0][1]} for one; all are unknown or special to the tokenizer.",
                hint="Give texts in a script that the backbone's tokenizer knows.",
            )
        if bad:
            warn(
                f"{len(bad)} of {len(found)} blocks hold no token that could be hidden and are left out "
                f"(the first begins in line {bad[0][1]})."
            )
        return cast(Rows, found.select([place for place, _ in good])) if bad else found

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """A block as it is, or a text in as many parts as it takes: nothing is cut off."""
        _mask(tokenizer)
        if rows and "input_ids" in rows[0]:
            return [{"parts": [row], "cut": False} for row in rows]
        return [{"parts": parts, "cut": False} for parts in blocks.parts(rows, tokenizer, self._length(limit))]

    def seen(self, example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
        """Every part with its disguises as in training, and the positions that were chosen."""
        shown = []
        for part in example["parts"]:
            ids, labels, _ = self._hidden(part, tokenizer, fill_masks.fixed(part["input_ids"]), disguised=True)
            shown.append(Tokens("input", tokenizer.convert_ids_to_tokens(ids), [label != IGNORED for label in labels]))
        return shown

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded parts with words hidden [parts, time]; targets [parts, time], the hidden tokens, IGNORED elsewhere.

        Training draws from the example's seed. In measuring, what is hidden follows from the text alone. Where a user
        asks for answers, a row that brings masks of its own is left as it is: these are to be filled.
        """
        mask, hidden, shown = _mask(tokenizer), [], []
        for example in examples:
            seed = example.get("seed")
            asks = example.get("asked", False) and any(mask in part["input_ids"] for part in example["parts"])
            drawn = []
            for number, part in enumerate(example["parts"]):
                draw = fill_masks.fixed(part["input_ids"]) if seed is None else np.random.default_rng([seed, number])
                drawn.append(self._hidden(part, tokenizer, draw, disguised=seed is not None, none=asks))
            shown.append({**example, "parts": [{"input_ids": ids} for ids, _, _ in drawn]})
            hidden += drawn
        width = max(len(ids) for ids, _, _ in hidden)
        fields = {
            "targets": tokens.filled([labels for _, labels, _ in hidden], width, IGNORED),
            "words": torch.tensor([words for _, _, words in hidden]),
        }
        return tokens.parts_batch(shown, tokenizer, fields)

    def targets(self, batch: Batch) -> float:
        """How many tokens are to be told."""
        return float((batch.fields["targets"] != IGNORED).sum())

    def loss(self, step: Step) -> Tensor:
        """Summed cross-entropy of the chosen positions."""
        return words.word_loss(step, step.batch.fields["targets"])

    def decode(self, step: Step, tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Summed losses in nats, hidden tokens, what was hidden at once (words), and tokens told right, of each row
        [rows, 4]; the row's perplexity, or what fills its own masks.
        """
        batch, mask = step.batch, _mask(tokenizer)
        chosen = batch.fields["targets"] != IGNORED
        gaps = (batch.inputs["input_ids"] == mask) & ~chosen  # [parts, time]
        told = words.read(step, chosen | gaps)
        sums, lines = _sums(told.at(chosen), batch), []
        for row, (nats, count, _, _) in enumerate(sums.tolist()):
            own = batch.fields["owners"] == row
            if gaps[own].any():
                seen = batch.inputs["attention_mask"][own].bool()
                said = told.at(gaps & own[:, None])
                lines.append(_filled(batch.inputs["input_ids"][own][seen], gaps[own][seen], said, tokenizer))
            else:
                value = blocks.exponential(nats, count)
                counted = {"tokens": int(count)} if count else {}
                lines.append({"prediction": round(value, 4) if math.isfinite(value) else None, **counted})
        return sums, lines

    def reread(self, lines: Sequence[Row]) -> np.ndarray | None:
        """Losses and hidden tokens [rows, 4]; words and right tokens, which lines do not tell, are NaN. None where a
        line tells no loss.
        """
        if any("tokens" not in line and line["prediction"] is not None for line in lines):
            return None
        counts = [float(line.get("tokens", 0)) for line in lines]
        values = [line["prediction"] or (math.nan if count else 1.0) for line, count in zip(lines, counts, strict=True)]
        return np.array([[n * math.log(v), n, math.nan, math.nan] for n, v in zip(counts, values, strict=True)])

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """What a model that knows every word would come to: no loss, and every token right [rows, 4]."""
        return np.array([[0.0, 1.0, 1.0, 1.0] for _ in rows]).reshape(-1, 4)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Perplexity of the hidden tokens, the share of them told right, and perplexity of the hidden words where they
        are hidden whole.
        """
        nats, count, words, right = (float(total) for total in answers.sum(axis=0))
        found = {"perplexity": blocks.exponential(nats, count), "accuracy": right / count if count else math.nan}
        return {**found, "word_perplexity": blocks.exponential(nats, words)} if self.whole_words else found

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """How the rows' losses are spread."""
        known = answers[answers[:, 1] > 0]
        if not len(known):
            return []
        counts, edges = np.histogram(known[:, 0] / known[:, 1], bins=min(DRAWN_BARS, len(known)))
        labels = [f"{math.exp(edge):.3g}" for edge in edges[:-1]]
        told = "Each bar begins at the perplexity that stands under it; the widths are equal in its logarithm."
        return [Bars("Perplexity of a row", labels, {"rows": [float(count) for count in counts]}, note=told)]

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Rows with a loss, the highest perplexity first."""
        means = answers[:, 0] / np.maximum(answers[:, 1], 1)
        order = np.argsort(-means, kind="stable")
        return cast(np.ndarray, order[means[order] > 0])

    def _length(self, limit: int) -> int:
        return min(self.max_length or USUAL_LENGTH, limit)

    def _hidden(
        self,
        part: Mapping[str, Any],
        tokenizer: PreTrainedTokenizerBase,
        draw: np.random.Generator,
        *,
        disguised: bool,
        none: bool = False,
    ) -> tuple[list[int], list[int], int]:
        """A part's tokens with words hidden [time], what was there [time] (IGNORED elsewhere), and how many words."""
        ids, special = list(part["input_ids"]), frozenset(tokenizer.all_special_ids)
        words = [] if none else fill_masks.words_of(ids, part["starts"], special)
        units = words if self.whole_words else [[position] for word in words for position in word]
        labels = [IGNORED] * len(ids)
        chosen = fill_masks.choose(units, self.share, draw)
        vocabulary = fill_masks.Vocabulary(_mask(tokenizer), len(tokenizer), special)
        for position in (position for unit in chosen for position in unit):
            labels[position] = ids[position]
            ids[position] = vocabulary.disguise(ids[position], draw) if disguised else vocabulary.mask
        return ids, labels, len(chosen)


def _mask(tokenizer: Reader) -> int:
    if tokenizer.mask_token_id is None:
        raise ModelError(
            "The backbone's tokenizer has no mask token, so that no word can be hidden.",
            hint="Use a backbone that was pre-trained with masks (BERT's kind), or the task 'generate'.",
        )
    return int(tokenizer.mask_token_id)


def _sums(told: Words, batch: Batch) -> np.ndarray:
    """Over the parts of each row: losses, hidden tokens, hidden words, tokens told right [rows, 4]."""
    owners = batch.fields["owners"].cpu().numpy()
    labels = batch.fields["targets"][told.chosen]  # [targets]
    places = owners[told.chosen.nonzero()[:, 0].cpu().numpy()]  # [targets]
    sums = np.zeros((len(batch.rows), 4))
    for part, scores in told.scores():
        losses = functional.cross_entropy(scores, labels[part], reduction="none")
        right = scores.argmax(dim=-1) == labels[part]
        np.add.at(sums[:, 0], places[part], losses.double().cpu().numpy())
        np.add.at(sums[:, 3], places[part], right.double().cpu().numpy())
    np.add.at(sums[:, 1], places, 1.0)
    np.add.at(sums[:, 2], owners, batch.fields["words"].double().cpu().numpy())
    return sums


def _filled(ids: Tensor, gaps: Tensor, told: Words, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """A row's text with its masks filled, and the likeliest tokens of each.

    ids and gaps [time], over all parts of the row; `told` tells the scores of its gaps. The confidence is that of the
    mask whose filling is the least sure.
    """
    tops = [scores.softmax(dim=-1).topk(CANDIDATES) for _, scores in told.scores()]
    scores, best = (torch.cat(every) for every in zip(*tops, strict=True))  # [gaps, candidates]
    filled = ids.clone()
    filled[gaps] = best[:, 0]
    candidates = [
        [{"word": _text([token], tokenizer), "score": round(score, 6)} for token, score in zip(*one, strict=True)]
        for one in zip(best.tolist(), scores.tolist(), strict=True)
    ]
    return {
        "prediction": _text(filled.tolist(), tokenizer),
        "confidence": round(float(scores[:, 0].min()), 6),
        "candidates": candidates,
    }


def _text(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
