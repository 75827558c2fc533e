"""What is said and shown of tagged rows: notes on the training split, and lines of the predictions file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.core import tokens
from tunesmith.core.notes import note, warn
from tunesmith.tasks import tag_spans
from tunesmith.tasks.tag_spans import OUTSIDE, Span
from tunesmith.tasks.tag_words import Written

NOTHING = -1
DIGITS = 6


def order(tag: str) -> tuple[bool, str, str]:
    """Tags in their order: O first, then by type and letter."""
    letter, kind = tag_spans.read(tag)
    return tag != OUTSIDE, kind, letter


def objects(answers: Iterable[Any]) -> np.ndarray:
    """Answers of any length as an array of objects [rows]."""
    found = list(answers)
    array = np.empty(len(found), dtype=object)
    for place, one in enumerate(found):
        array[place] = one
    return array


def say(rows: int, cut: int, windows: int, unread: int, dropped: int) -> None:
    """Tell how many of the training rows are read in windows, and what the tokenizer makes nothing of."""
    if cut:
        note(
            f"{cut:,} of {rows:,} training rows are longer than a window: they are read in overlapping windows "
            f"({windows:,} for all rows), and nothing is cut."
        )
    if unread:
        warn(f"The tokenizer makes nothing of {unread:,} training words: they carry no loss.")
    if dropped:
        warn(f"{dropped:,} of {rows:,} training rows have no other words, and are left out.")


def packed(examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The texts of examples as fields of a batch: `texts` [batch, characters], `starts` and `ends` [batch, words],
    `whole` [batch].
    """
    most = max(len(example["starts"]) for example in examples)
    return {
        "texts": tokens.code_points([example["text"] for example in examples]),
        "starts": tokens.filled([example["starts"] for example in examples], most, NOTHING),
        "ends": tokens.filled([example["ends"] for example in examples], most, NOTHING),
        "whole": torch.tensor([bool(example["whole"]) for example in examples]),
    }


def unpacked(fields: Mapping[str, Tensor]) -> list[Written]:
    """The texts that `packed` put into a batch."""
    places = (fields[name].tolist() for name in ("starts", "ends", "whole"))
    rows = zip(tokens.texts_of(fields["texts"]), *places, strict=True)
    return [Written(text, _kept(starts), _kept(ends), whole) for text, starts, ends, whole in rows]


def line(text: Written, tags: Sequence[str], sureness: Sequence[float | None], scheme: str) -> dict[str, Any]:
    """The predictions file's entries for a row; sureness: each tag's probability, None for a word that was not read."""
    read = [chance for chance in sureness if chance is not None]
    found: dict[str, Any] = {"words": text.words, "prediction": list(tags)}
    if scheme != "none":
        found["entities"] = [_entity(text, span, sureness) for span in tag_spans.spans(tags, scheme)]
    return {**found, "confidence": round(min(read, default=0.0), DIGITS)}


def _entity(text: Written, span: Span, sureness: Sequence[float | None]) -> dict[str, Any]:
    first, last = text.starts[span.start], text.ends[span.end - 1]
    found = {"type": span.kind, "text": text.text[first:last], "start": span.start, "end": span.end}
    if text.whole:
        found |= {"start_char": first, "end_char": last}
    read = [chance for chance in sureness[span.start : span.end] if chance is not None]
    return {**found, "confidence": round(min(read, default=0.0), DIGITS)}


def _kept(values: Sequence[int]) -> list[int]:
    return [value for value in values if value != NOTHING]
