"""Text generation: language modelling on raw text, and answers to instructions, in talks and to prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tunesmith.core.column import Column, Row
from tunesmith.core.encoded import keep
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.core.notes import note
from tunesmith.core.panel import Panel, Table, Tokens
from tunesmith.core.part import Task
from tunesmith.core.rows import Bins, Rows, each
from tunesmith.core.step import Batch, Step
from tunesmith.core.tokens import IGNORED
from tunesmith.tasks import blocks, generate_scores
from tunesmith.tasks import generate_formats as formats
from tunesmith.tasks import generate_lessons as lessons
from tunesmith.tasks import generate_packing as packing
from tunesmith.tasks import generate_sequences as sequences
from tunesmith.tasks import generate_templates as templates
from tunesmith.tasks.generate_answers import answered, texts
from tunesmith.tasks.generate_lessons import Example, Talks, Tally
from tunesmith.tasks.generate_sampling import Marks, Sampling

USUAL_LENGTH = 512
SHOWN_ANSWERS = 10


class Generate(Task):
    """Write text: go on with raw text, or answer instructions, talks and prompts.

    Formula: loss = -sum over t in R of log p(x_t | x_1 .. x_(t-1)); an encoder-decoder's also sees the whole source.
    perplexity = exp(loss / |R|).
    Symbols: x the tokens of an example as the chat template writes it; R the positions of the answers with the token
    that ends each, or of all tokens (`loss_on: all`, and raw text). Shapes: logits [sequences, time, vocabulary];
    targets [sequences, time], what follows each position, IGNORED where nothing is learned.
    Paper: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, for raw text; Ouyang et
    al., "Training language models to follow instructions with human feedback", 2022, section 3, for answers. Their
    losses are means over a batch's tokens; ours is a mean over those of the whole update. Examples that are packed do
    not see each other.
    """

    metric: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForSeq2SeqLM", "AutoModelForCausalLM")
    looks: ClassVar[bool] = True
    untrained: ClassVar[str] = "backbone before training"
    defines: ClassVar[Mapping[str, str]] = {**blocks.DEFINES, **generate_scores.DEFINES}

    format: Literal["prompt_completion", "alpaca", "messages", "conversations", "text"] = "prompt_completion"
    """How rows are written; found by the file's columns where not given."""
    roles: dict[str, str] = Field({})
    """Which column of the file plays a role of the format; found among the usual names where not given."""
    template: templates.Choice = "auto"
    """How talks become text: the tokenizer's own chat template (`model`), ours (`plain`), or its own if it has one."""
    system: str = ""
    """The system text of rows that have none of their own."""
    loss_on: Literal["responses", "all"] = "responses"
    """What is learned of a talk: the answers alone, or all of it."""
    join: bool = False
    """Whether rows of raw text run on into one text that is cut into full blocks."""
    pack: bool = False
    """Whether several examples share a row of a batch, none seeing another, so that little is padded."""
    long: Literal["cut", "drop"] = "cut"
    """What becomes of training examples that are too long: their end is cut off, or they are left out."""
    max_length: int | None = Field(None, ge=4)
    """Most tokens of an example; the model's limit, at most 512, where not given."""
    answered: int = Field(64, ge=0)
    """How many rows (of each 2,048 of a split) are answered when it is measured; the loss is that of all rows."""
    sampling: Sampling = Sampling()
    """How answers are written."""

    _start: int | None = PrivateAttr(default=None)
    """What an encoder-decoder starts to write with; None: the backbone is a decoder."""
    _ends: tuple[int, ...] = PrivateAttr(default=())
    """What ends an answer of the backbone's own, and `_stops` in the template that was learned."""
    _stops: tuple[int, ...] = PrivateAttr(default=())
    _layout: templates.Layout | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: Any) -> Any:
        """A role may be named like a setting of its own: `prompt: COLUMN`."""
        if not isinstance(values, dict):
            return values
        known = {column.role for one in formats.FORMATS.values() for column in one.columns} - set(cls.model_fields)
        named = {key: value for key, value in values.items() if key in known}
        rest = {key: value for key, value in values.items() if key not in known}
        return {**rest, "roles": {**rest.get("roles", {}), **named}} if named else values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.join and (self.format != "text" or self.pack):
            raise ValueError("'join' makes full blocks of raw text (format: text), which 'pack' has nothing to add to")
        return self

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """A file in one of the formats."""
        found = formats.recognise(names, rows)
        return None if found is None else {"format": found}

    def columns(self) -> list[Column]:
        """Those of the format."""
        return formats.columns(self.format, self.roles)

    def meet(self, model: nn.Module) -> None:
        """Whether the backbone is an encoder-decoder, how it starts and ends to write; what it can't do is refused."""
        config: Any = model.config
        known: Any = model.generation_config
        self._start, ends = None, known.eos_token_id
        self._ends = tuple(ends if isinstance(ends, list) else () if ends is None else (ends,))
        if config.is_encoder_decoder:
            formats.refuse_pairs(self, type(model).__name__)
            start = getattr(config, "decoder_start_token_id", None)
            self._start = known.decoder_start_token_id if start is None else start
            if self._start is None:
                raise ModelError(
                    f"{type(model).__name__} does not say with which token it starts to write.",
                    hint="Set decoder_start_token_id in its config.json.",
                )
        elif self.pack and not packing.keeps_apart(model, self.max_length or USUAL_LENGTH):  # type: ignore[arg-type]
            raise RecipeError(
                f"task.pack: {type(model).__name__} lets examples in one row see each other, mask or not.",
                hint="Leave it out; examples of like length are batched together anyway.",
            )

    def learn(self, rows: Iterable[Row]) -> None:
        """Nothing. A talk that does not end with an answer raises DataError."""
        if self.format != "text":
            formats.refuse_unanswered(rows, self.format)

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """Nothing: the head gives words."""
        self.learn(rows)

    def arrange(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, limit: int) -> Rows:
        """The split's examples, encoded and counted, in bins where they are packed. What is cut or left out is said; if
        nothing is left to learn, that is a DataError.
        """
        limit = self._length(limit)
        tally = Tally(limit)
        if self.format != "text" and self._start is None:
            layout = self._laid_out(tokenizer)
            templates.tell(layout)
            templates.adopt(layout)
            self._stops = layout.stops
        found: Iterable[tuple[int, Example | None]] = lessons.documents(each(rows), tokenizer, limit, self.join)
        if self.format != "text":
            found = self._talks(tokenizer).examples(each(rows), limit, self.long)
        kept: Rows = keep(tally.through(found, tokenizer))
        tally.tell()
        if not self.pack:
            return kept
        bins = packing.bins(tally.sizes, limit)
        full = 100 * sum(tally.sizes) / (limit * len(bins))
        note(f"Packed: {len(kept):,} examples in {len(bins):,} rows of at most {limit} tokens, {full:.0f} % full.")
        return Bins(kept, bins)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[Example]:
        """Arranged rows as they are; others whole: raw text in as many parts as it takes, talks cut to the limit, with
        what a model reads to answer them (`prompt`) and whether it is to answer where it is only measured (`chosen`).
        """
        if rows and "members" in rows[0]:
            return [{"members": row["members"], "cut": any(one["cut"] for one in row["members"])} for row in rows]
        if rows and "input_ids" in rows[0]:
            return [dict(row) for row in rows]
        examples = [self._example(row, tokenizer, self._length(limit)) for row in rows]
        for place in lessons.chosen(rows, self.format, self.answered):
            examples[place]["chosen"] = True
        return examples

    def _example(self, row: Row, tokenizer: PreTrainedTokenizerBase, limit: int) -> Example:
        if self.format == "text":
            found: Example | None = lessons.raw(row, tokenizer, limit)
        else:
            found = self._talks(tokenizer).example(row, limit, "cut")
        assert found is not None
        wanted = self.sampling.max_new_tokens
        if self._start is None:
            return lessons.with_room(found, limit, wanted)
        # An encoder-decoder's answer does not share its positions with what is read.
        return {**found, "room": min(wanted, limit - 1), "short": False}

    def _talks(self, tokenizer: PreTrainedTokenizerBase) -> Talks:
        layout = self._laid_out(tokenizer) if self._start is None else None
        return Talks(self.format, self.system, self.loss_on, tokenizer, layout)

    def size(self, example: Mapping[str, Any]) -> int:
        """Tokens, read and written."""
        return sum(map(lessons.tokens_of, sequences.of(example)))

    def seen(self, example: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
        """Every sequence; of an encoder-decoder what it reads and what it writes."""
        return sequences.shown(example, tokenizer)

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Padded sequences [sequences, time]; see `generate_sequences.batch`."""
        return sequences.batch(examples, tokenizer, self._start)

    def targets(self, batch: Batch) -> float:
        """Positions that carry loss."""
        return float((batch.fields["targets"] != IGNORED).sum())

    def loss(self, step: Step) -> Tensor:
        """Summed cross-entropy of the positions that carry loss."""
        return sequences.loss(step)

    def ahead(self, model: nn.Module, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
        """With the answers of all that are to be answered, written side by side."""
        return answered(model, examples, self.sampling, self._marks(tokenizer))

    def decode(self, step: Step, tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Of each row its answer (None where it was not asked for), loss in nats, positions that carry loss, words and
        bytes [rows, 5]. A line shows the answer, the perplexity of the row, and whether the row was cut.
        """
        sums = sequences.sums(step)
        said = texts(step, tokenizer, self.sampling, self._marks(tokenizer))
        if self.format != "text":  # what goes on with a text may well begin with a space
            said = {place: text.strip() for place, text in said.items()}
        return sequences.answers(step.batch, sums, said)

    def reread(self, lines: Sequence[Row]) -> np.ndarray | None:
        """What was said, losses and positions [rows, 5]."""
        return sequences.reread(lines)

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """The right answers of each row (None of raw text), and what a model that is certain of them would come to
        [rows, 5].
        """
        known = [None if self._is_bare(row) else formats.right(row, self.format) or None for row in rows]
        truths = np.empty((len(known), 5), dtype=object)
        for place, right in enumerate(known):
            truths[place] = [None, 0.0, 1.0, 1.0, 1.0]
            truths[place, 0] = right
        return truths

    def _is_bare(self, row: Row) -> bool:
        return self.format == "text" or "input_ids" in row or "members" in row

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Perplexities; of answers BLEU, chrF, ROUGE and exact match besides, over the rows that were answered."""
        sums = answers[:, 1:].astype(float)
        if self.format == "text":
            return blocks.perplexities(sums)
        nats, learned = sums[:, :2].sum(axis=0).tolist()
        found = {"perplexity": blocks.exponential(nats, learned)}
        if not self.answered:
            return found
        said = generate_scores.answered(truths[:, 0], answers[:, 0])
        told = [generate_scores.statistics(text, right) for text, right in said]
        return {**found, **generate_scores.scores(np.array(told))}

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """The first answers beside what was right."""
        said = generate_scores.answered(truths[:, 0], answers[:, 0])
        if not said:
            return []
        rows = [[right[0], text] for text, right in said[:SHOWN_ANSWERS]]
        return [Table("Answers", ["right", "answer"], rows, f"The first of {len(said):,} rows that were answered.")]

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Rows by their perplexity, the highest first."""
        means: np.ndarray = answers[:, 1].astype(float) / np.maximum(answers[:, 2].astype(float), 1)
        order = np.argsort(-means, kind="stable")
        return order[means[order] > 0]

    def companions(self, model: nn.Module) -> dict[str, Any]:
        """How to generate, with what ends an answer in the template that was learned."""
        known: Any = model.generation_config
        stops = list(dict.fromkeys([*self._stops, *self._ends]))
        if not set(stops) - set(self._ends):
            return {}
        return {"generation_config.json": {**known.to_diff_dict(), "eos_token_id": stops}}

    def state(self) -> dict[str, Any]:
        """What was learned from the backbone and its tokenizer."""
        return {"start": self._start, "ends": list(self._ends), "stops": list(self._stops)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._start, self._ends, self._stops = state["start"], tuple(state["ends"]), tuple(state["stops"])

    def _marks(self, tokenizer: PreTrainedTokenizerBase) -> Marks:
        return Marks.of(tokenizer, (*self._stops, *self._ends), self._start)

    def _laid_out(self, tokenizer: PreTrainedTokenizerBase) -> templates.Layout:
        if self._layout is None or self._layout.tokenizer is not tokenizer:
            self._layout = templates.layout(self.template, tokenizer)
        return self._layout

    def _length(self, limit: int) -> int:
        return min(self.max_length or USUAL_LENGTH, limit)
