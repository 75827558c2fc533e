"""Tagging of words: named entities, parts of speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, PrivateAttr
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tunesmith.core import tokens
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Cell, Panel, Table
from tunesmith.core.panel import Tokens as Seen
from tunesmith.core.part import Reader, Task
from tunesmith.core.rows import Rows, blocks, line_of
from tunesmith.core.step import Batch, Step
from tunesmith.tasks import classes, tag_answers, tag_spans, tag_windows, tag_words
from tunesmith.tasks.tag_answers import objects
from tunesmith.tasks.tag_spans import Tags, Tally
from tunesmith.tasks.tag_survey import Survey
from tunesmith.tasks.tag_windows import NO_WORD
from tunesmith.tasks.tag_words import Written

WORD_NAMES = ("tokens", "words")
TAG_NAMES = ("tags", "ner_tags", "labels", "ner", "pos_tags", "pos", "entities")
NAMED = 20


class Tag(Task):
    """Give every word of a text a tag: the entity that it is part of, or its part of speech.

    Formula: p(t | x, i) = softmax(W h_j + b) with j the piece that speaks for word i; the loss is the sum over words of
    -log p(t_i | x, i). Long texts are read in overlapping windows; every word is learned and answered in one of them,
    where it stands farthest from a cut.
    Symbols: x the words, t_i the tag of word i, h [hidden] the backbone's state of a piece. F1 = 2 right / (given +
    true), over spans of words that are right in type and in both ends.
    Shapes: logits [windows, time, tags].
    Paper: Devlin et al., "BERT", 2019, section 5.3: the first piece of a word speaks for it. Tjong Kim Sang and De
    Meulder, "Introduction to the CoNLL-2003 Shared Task", 2003, for the metric, counted as seqeval does. We give the
    tokenizer the text that is joined from the words, so that blanks are marked as in pre-training.
    """

    metric: ClassVar[str] = "f1"
    defines: ClassVar[Mapping[str, str]] = tag_spans.METRICS
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForTokenClassification",)

    words: str | None = None
    """Column of the words: lists, or texts that are split at blanks; found among the usual names where not given."""
    tags: str | None = None
    """Column of the tags, one a word; found among the usual names where not given."""
    names: list[str] | None = Field(None, min_length=2)
    """Names of the tags, where the file holds their numbers (the first name is number 0's)."""
    scheme: Literal["auto", "bio", "iobes", "none"] = "auto"
    """How tags mark spans: B-x I-x, or with E-x and S-x too; `none` if each stands for itself; `auto` looks at them."""
    repair: bool = False
    """Whether illegal tags (I-x that goes on nothing) are repaired, as evaluation reads them, instead of refused."""
    piece: Literal["first", "last"] = "first"
    """Which piece of a word speaks for it; `last` for models that see only what stands before."""
    max_length: int | None = Field(None, ge=8)
    """Most tokens of a window; the model's limit, at most 512, where not given."""
    stride: int | None = Field(None, ge=0)
    """How many tokens neighbouring windows share; a quarter of a window where not given."""

    _classes: list[str] = PrivateAttr(default_factory=list)
    _scheme: str = PrivateAttr(default="none")
    _usual: str = PrivateAttr(default=tag_spans.OUTSIDE)
    _tally: Tally | None = PrivateAttr(default=None)
    _told: set[str] = PrivateAttr(default_factory=set)

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """A column of words and one of tags, which have as many in most rows; the others are faults of the file."""
        lower = {name.lower(): name for name in names}
        words = next((lower[name] for name in WORD_NAMES if name in lower), None)
        tags = next((lower[name] for name in TAG_NAMES if name in lower), None)
        if words is None or tags is None or not rows:
            return None
        lengths = [tag_words.length(row.get(words), row.get(tags)) for row in rows]
        fits = 2 * sum(map(bool, lengths)) > len(rows) and max(lengths) > 1
        return {"words": words, "tags": tags} if fits else None

    def columns(self) -> list[Column]:
        """Words and tags."""
        names = None if self.names is None else tuple(self.names)
        parse = partial(tag_words.tags, scheme=self.scheme, repair=self.repair, names=names)
        return [
            Column("words", self.words, (*WORD_NAMES, "text", "sentence"), tag_words.words, storage="texts"),
            Column("tags", self.tags, TAG_NAMES, parse, storage="texts", target=True, level="words"),
        ]

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn the tags and their scheme. Illegal sequences, and one tag alone, raise DataError."""
        survey = Survey(self.scheme, self.repair)
        for row in rows:
            survey.add(row)
        self._scheme, counts = survey.settle()
        self._classes = sorted(counts, key=tag_answers.order)
        self._usual = max(self._classes, key=lambda tag: counts[tag])
        self._tally = Tally(self._scheme)

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """The tags in the order of the head, and the scheme that they show; from rows the most frequent one."""
        self._classes = classes.of_head(config)
        counts = Counter(tag for row in rows for tag in row["tags"])
        self._usual = max(self._classes, key=lambda tag: counts[tag])
        self._scheme = tag_spans.detected(Counter(self._classes))[0] if self.scheme == "auto" else self.scheme
        self._tally = Tally(self._scheme)

    def head(self) -> dict[str, Any]:
        """One output a tag, with the tags' names."""
        return {
            "num_labels": len(self._classes),
            "id2label": dict(enumerate(self._classes)),
            "label2id": {name: number for number, name in enumerate(self._classes)},
        }

    def arrange(self, rows: Rows, tokenizer: Reader, limit: int) -> Rows:
        """The training split without rows of which the tokenizer makes nothing; windows and unread words are told."""
        cut, dropped, unread, windows, start = 0, [], 0, 0, 0
        for block in blocks(rows):
            examples = self.encode(block, tokenizer, limit)
            lost = [len(words) for words in tag_windows.unread(examples)]
            dropped += [start + place for place, one in enumerate(examples) if lost[place] == len(one["starts"])]
            counts = [len(example["parts"]) for example in examples]
            cut, windows, unread = cut + sum(count > 1 for count in counts), windows + sum(counts), unread + sum(lost)
            start += len(block)
        tag_answers.say(len(rows), cut, windows, unread, len(dropped))
        if len(dropped) == len(rows):
            raise DataError(
                f"The tokenizer makes nothing of any word in the {len(rows):,} training rows, such as "
                f"{examples[0]['text']!r}: there is nothing to learn.",
                hint="Name a model of the language that the words are written in.",
            )
        kept = np.setdiff1d(np.arange(len(rows)), dropped)
        return cast(Mapped, rows).select(kept) if dropped else rows

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
        """Windows of each row with the words that their positions speak for, and the numbers of these words' tags.

        A tokenizer that can't tell where its pieces stand raises ModelError.
        """
        if not tokenizer.is_fast:
            raise ModelError(
                f"{type(tokenizer).__name__} can't tell which word a token belongs to.",
                hint="Name a model with a fast tokenizer (one with the file tokenizer.json).",
            )
        written = [tag_words.written(row["words"]) for row in rows]
        number = {name: place for place, name in enumerate(self._classes)}
        examples = []
        for row, text, cut in zip(rows, written, tag_windows.pieces(written, tokenizer), strict=True):
            width, overlap = self._widths(limit, cut.specials)
            found = tag_windows.parts(cut, self.piece, width, overlap, tokenizer.pad_token_id)
            if "tags" in row:
                # A tag that training never saw has no number: `truths` tells of it.
                labels = [number.get(tag, tokens.IGNORED) for tag in self._tags(row)]
                for part in found:
                    part["labels"] = [tokens.IGNORED if word == NO_WORD else labels[word] for word in part["carriers"]]
            examples.append({"parts": found, "cut": False, **vars(text)})
        self._tell(rows, written, tag_windows.unread(examples))
        return examples

    def seen(self, example: Mapping[str, Any], tokenizer: Reader) -> list[Seen]:
        """Every window, with the pieces whose tags are learned."""
        found = []
        for number, part in enumerate(example["parts"], 1):
            loss = [label != tokens.IGNORED for label in part.get("labels", [tokens.IGNORED] * len(part["input_ids"]))]
            name = "input" if len(example["parts"]) == 1 else f"window {number}"
            found.append(Seen(name, tokenizer.convert_ids_to_tokens(part["input_ids"]), loss))
        return found

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded windows [windows, time]; their words, and the targets where they are known, in the same shape."""
        parts = [part for example in examples for part in example["parts"]]
        width = max(len(part["input_ids"]) for part in parts)
        fields = {"words": tokens.filled([part["carriers"] for part in parts], width, NO_WORD)}
        if "labels" in parts[0]:
            fields["targets"] = tokens.filled([part["labels"] for part in parts], width, tokens.IGNORED)
        return tokens.parts_batch(examples, tokenizer, fields | tag_answers.packed(examples))

    def targets(self, batch: Batch) -> float:
        """Words whose tag is learned."""
        return float((batch.fields["targets"] != tokens.IGNORED).sum())

    def loss(self, step: Step) -> Tensor:
        """Cross-entropy summed over words."""
        return tokens.token_losses(step.outputs.logits, step.batch.fields["targets"]).sum()

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """A tuple of tags for each row; its tags, entities, and the probability of the tag that is least sure."""
        fields = step.batch.fields
        spoken = fields["words"] != NO_WORD  # [windows, time]
        sure, best = step.outputs.logits[spoken].float().softmax(dim=-1).max(dim=-1)  # [words]
        owners = fields["owners"][:, None].expand_as(fields["words"])[spoken]
        texts = tag_answers.unpacked(fields)
        given = [[self._unread_tag] * len(text.starts) for text in texts]
        chances: list[list[float | None]] = [[None] * len(text.starts) for text in texts]
        for owner, word, number, chance in zip(
            owners.tolist(), fields["words"][spoken].tolist(), best.tolist(), sure.tolist(), strict=True
        ):
            given[owner][word], chances[owner][word] = self._classes[number], chance
        lines = [
            tag_answers.line(text, tags, sureness, self._scheme)
            for text, tags, sureness in zip(texts, given, chances, strict=True)
        ]
        return objects(map(tuple, given)), lines

    def reread(self, lines: Sequence[Row]) -> np.ndarray:
        """A tuple of tags for each row."""
        return objects(tuple(line["prediction"]) for line in lines)

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """A tuple of tags for each row; tags that training never saw are told."""
        found, known = [self._tags(row) for row in rows], set(self._classes)
        strange = Counter(tag for tags in found for tag in tags if tag not in known)
        if strange:
            names = ", ".join(f"{tag} ({count:,})" for tag, count in strange.most_common(5))
            warn(
                f"{strange.total():,} words of held-out rows have tags that training never saw: {names}. They count "
                "as mistakes in every metric, and are left out of the loss."
            )
        return objects(found)

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Micro F1, precision and recall of spans, as seqeval counts them, and accuracy of words.

        With the scheme `none` a span is a word: the four are equal.
        """
        assert self._tally is not None
        right, given, true, words_right, words = self._tally.counts(truths.tolist(), answers.tolist()).tolist()
        precision, recall, f1 = tag_spans.scores(right, given, true)
        return dict(zip(tag_spans.METRICS, (f1, precision, recall, words_right / words), strict=True))

    def constant(self) -> tuple[str, Any]:
        """The most frequent tag of the training split, on every word."""
        return "most frequent tag", np.array(self._usual, dtype=object)

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """Precision, recall and F1 a type."""
        rows: list[list[Cell]] = []
        for kind, (right, given, true) in tag_spans.by_kind(truths, answers, self._scheme).items():
            rows.append([kind, true, given, *tag_spans.scores(right, given, true)])
        illegal = sum(bool(tag_spans.fault(tags, self._scheme)) for tags in answers)
        told = f"Answers with tags in an illegal order, read leniently: {illegal:,} of {len(answers):,}."
        what = "tag" if self._scheme == "none" else "type"
        columns = [what, "true", "given", "precision", "recall", "F1"]
        return [Table(f"Each {what}", columns, rows, "" if self._scheme == "none" else told)]

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Rows with a wrong tag, the most confident first."""
        pairs = zip(truths, answers, strict=True)
        positions = np.array([place for place, (truth, answer) in enumerate(pairs) if truth != answer], dtype=np.int64)
        return positions[np.argsort(-confidences[positions], kind="stable")]

    def state(self) -> dict[str, Any]:
        """The tags, their scheme, and the most frequent one."""
        return {"classes": self._classes, "scheme": self._scheme, "usual": self._usual}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back the tags."""
        self._classes, self._scheme, self._usual = list(state["classes"]), str(state["scheme"]), str(state["usual"])
        self._tally = Tally(self._scheme)

    @property
    def _unread_tag(self) -> str:
        """The answer to a word of which the tokenizer makes nothing."""
        return tag_spans.OUTSIDE if tag_spans.OUTSIDE in self._classes else self._usual

    def _tags(self, row: Row) -> Tags:
        return tag_spans.repaired(row["tags"], self._scheme) if self.repair else tuple(row["tags"])

    def _widths(self, limit: int, specials: int) -> tuple[int, int]:
        """Pieces of a window without its special tokens, and how many of them the next one shares."""
        width = max(1, min(self.max_length or 512, limit) - specials)
        if self.stride is not None and self.stride >= width:
            raise RecipeError(
                f"task.stride: windows of {width} tokens that share {self.stride} would never get on.",
                hint=f"Set it to at most {width - 1}; {width // 4} is usual.",
            )
        return width, width // 4 if self.stride is None else self.stride

    def _tell(self, rows: Sequence[Row], written: Sequence[Written], unread: Sequence[Sequence[int]]) -> None:
        """Name words of which the tokenizer makes nothing, each once."""
        for row, text, places in zip(rows, written, unread, strict=True):
            for word in {text.words[place] for place in places} - self._told:
                if len(self._told) == NAMED:
                    note("Of further such words nothing is said.")
                self._told.add(word)
                if len(self._told) > NAMED:
                    continue
                line = f" (line {line_of(row)})" if "line" in row else ""
                note(f"The tokenizer makes nothing of the word {word!a}{line}: its answer is {self._unread_tag}.")
