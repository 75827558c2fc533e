"""What text generation learns from: a split's examples, counted while they are made, and refused where they are none.

An example of a decoder is `input_ids` and `loss`, which tells of each id whether it is learned; one of an
encoder-decoder is `input_ids`, what is read, and `labels`, what is written, all of which is learned.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from tunesmith.core.column import Row
from tunesmith.core.errors import DataError
from tunesmith.core.notes import note, warn
from tunesmith.core.tokens import specials
from tunesmith.tasks import blocks
from tunesmith.tasks import generate_chat as chat
from tunesmith.tasks import generate_formats as formats
from tunesmith.tasks.blocks import Encoded
from tunesmith.tasks.generate_templates import Layout

Example = dict[str, Any]
LINES = 5
SHOWN = 60
LEAST_ROOM = 16
"""Fewest tokens that a prompt must leave for its answer, or else its beginning is cut off."""


def documents(
    rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, limit: int, join: bool
) -> Iterator[tuple[int, Example]]:
    """Lines and examples of raw text, at most `limit` tokens each, with `join` as one running text.

    Every document ends with the tokenizer's end token. The special tokens that the tokenizer puts before a text stand
    before every piece; where it puts none, the last token of the piece before does. So every token is learned once,
    except the very first where nothing stands before it.
    """
    before, _ = specials(tokenizer)
    size = limit - max(len(before), 1)
    found = (_closed(one, tokenizer) for one in blocks.encode(rows, tokenizer))
    if join:
        yield from _pieces(blocks.joined(found, size, ()), before)
        return
    for document in found:
        yield from _pieces(blocks.cut(document, size), before)


def _closed(document: Encoded, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    if tokenizer.eos_token_id is None or not document.ids:
        return document
    return replace(document, ids=[*document.ids, tokenizer.eos_token_id], starts=[*document.starts, False])


def _pieces(found: Iterable[Encoded], before: Sequence[int]) -> Iterator[tuple[int, Example]]:
    last: list[int] = []
    for one in found:
        head = list(before) or last
        flags = [False] * len(head) + [True] * len(one.ids)
        # Nothing predicts the first token of all.
        flags[0] = False
        yield one.line, {"input_ids": [*head, *one.ids], "loss": flags, "cut": False}
        last = one.ids[-1:]


@dataclass(frozen=True)
class Talks:
    """How rows of a format become examples, for a decoder as `layout` says, without one for an encoder-decoder."""

    format: str
    system: str
    loss_on: Literal["responses", "all"]
    tokenizer: PreTrainedTokenizerBase
    layout: Layout | None

    def example(self, row: Row, limit: int, long: Literal["cut", "drop"]) -> Example | None:
        """One row, with the `prompt` that a model answers; None where it is longer than `limit` and such are dropped.
        A row without a right answer has nothing that is learned.
        """
        turns = formats.turns(row, self.format, self.system)
        if self.layout is None:
            pair = chat.fit_pair(chat.encode_pair(turns, self.tokenizer), limit, long)
            return None if pair is None else _example(pair.source, pair.cut, pair.source, labels=pair.target)
        whole = chat.encode(turns, self.layout, self.loss_on)
        talk = chat.fit(whole, limit, long)
        if talk is None:
            return None
        loss = [False, *talk.loss[1:]] if formats.right(row, self.format) else [False] * len(talk.ids)
        return _example(talk.ids, talk.cut, whole.ids[: whole.prompt], loss=loss)

    def examples(
        self, rows: Iterable[Row], limit: int, long: Literal["cut", "drop"]
    ) -> Iterator[tuple[int, Example | None]]:
        """Lines and examples to learn from, which need no prompts."""
        for number, row in enumerate(rows, 1):
            example = self.example(row, limit, long)
            if example is not None:
                del example["prompt"]
            yield row.get("line", number), example


def _example(ids: list[int], cut: int, prompt: list[int], **learned: Any) -> Example:
    return {"input_ids": ids, **learned, "cut": cut > 0, "prompt": prompt}


def raw(row: Row, tokenizer: PreTrainedTokenizerBase, limit: int) -> Example:
    """A whole text as it is measured: in as many `parts` as it takes, its words and bytes, and itself as a `prompt`."""
    before, _ = specials(tokenizer)
    (whole,) = blocks.encode([row], tokenizer)
    # A text without a token still is a row: nothing of it is learned.
    nothing = {"input_ids": list(before) or [tokenizer.pad_token_id], "loss": [False] * max(len(before), 1)}
    parts = [part for _, part in documents([row], tokenizer, limit, join=False)] or [nothing]
    size = blocks.size_of(row["text"])
    return {"parts": parts, "cut": False, "prompt": [*before, *whole.ids] or nothing["input_ids"], "size": size}


def with_room(example: Example, limit: int, wanted: int) -> Example:
    """A decoder's example with the `room` of its answer: at most `wanted` tokens, and no more than fit behind its
    `prompt`. Of a prompt that leaves too few the beginning is cut off, and `short` is True.
    """
    prompt, least = example["prompt"], min(wanted, LEAST_ROOM, limit // 2)
    short = len(prompt) > limit - least
    if short:
        prompt = prompt[-(limit - min(wanted, limit // 2)) :]
    return {**example, "prompt": prompt, "room": min(wanted, limit - len(prompt)), "short": short}


def chosen(rows: Sequence[Row], format: str, count: int) -> list[int]:
    """Places of the rows to answer: those without a right answer, and `count` others, by their content alone."""
    if format == "text":
        return []
    known = [bool(formats.right(row, format)) for row in rows]
    lots = [zlib.crc32(repr(formats.turns(row, format)).encode(errors="replace")) for row in rows]
    measured = sorted((lots[place], place) for place, one in enumerate(known) if one)[:count]
    return [place for place, one in enumerate(known) if not one] + [place for _, place in measured]


def learned(example: Example) -> int:
    """How many positions of an example carry loss."""
    return len(example["labels"]) if "labels" in example else sum(example["loss"])


def tokens_of(example: Example) -> int:
    """How many tokens an example has, read and written."""
    return len(example["input_ids"]) + len(example.get("labels", ()))


@dataclass
class Tally:
    """Counts of the examples that pass through, with the lines of those of which something is lost."""

    limit: int
    sizes: list[int] = field(default_factory=list)
    learned: int = 0
    cut: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    shown: str = ""

    def through(
        self, found: Iterable[tuple[int, Example | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[Example]:
        """The examples with something to learn, each with its `line`; None stands for one that is too long to keep.

        None left raises DataError, with the counts and the first that was seen.
        """
        for line, example in found:
            if example is None:
                self.dropped.append(line)
                continue
            if not learned(example):
                self.empty.append(line)
                self.shown = self.shown or str(tokenizer.decode(example["input_ids"]))[-SHOWN:]
                continue
            if example["cut"]:
                self.cut.append(line)
            self.sizes.append(tokens_of(example))
            self.learned += learned(example)
            yield {**example, "line": line}
        if not self.sizes:
            self._refuse()

    def tell(self) -> None:
        """Say what is learned, and what is not."""
        note(
            f"{len(self.sizes):,} training examples of {sum(self.sizes):,} tokens: "
            f"{self.learned:,} positions carry loss."
        )
        for lines, what in self._lost():
            warn(f"{what}: {_lines(lines)}.")

    def _lost(self) -> list[tuple[list[int], str]]:
        every = len(self.sizes) + len(self.dropped) + len(self.empty)
        told = [
            (self.cut, f"longer than {self.limit} tokens and cut at the end"),
            (self.dropped, f"longer than {self.limit} tokens and left out"),
            (self.empty, "without a position that carries loss and left out"),
        ]
        return [(lines, f"{len(lines):,} of {every:,} training examples are {what}") for lines, what in told if lines]

    def _refuse(self) -> None:
        lost = "; ".join(f"{what} ({_lines(lines)})" for lines, what in self._lost()) or "the split holds no text"
        seen = f" The first that was seen ends in {self.shown!r}." if self.shown else ""
        raise DataError(
            f"There is nothing to learn: {lost}.{seen}",
            hint=f"A higher task.max_length (it is {self.limit}) leaves more room, if the model can read more.",
        )


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:LINES]))
    return f"line{'s' * (len(lines) > 1)} {shown}{', …' if len(lines) > LINES else ''}"
