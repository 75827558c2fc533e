"""Documents cut into blocks for language modelling, without a token lost or repeated, and what perplexities are.

A document is encoded whole, without special tokens, and then cut; the tokenizer's special tokens of a single text go
round every piece. With `join` the documents run on into one text, which is cut into full blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.core import rows as splits
from tunesmith.core.column import Row
from tunesmith.core.encoded import keep
from tunesmith.core.errors import DataError, ModelError
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import warn
from tunesmith.core.rows import Rows
from tunesmith.core.tokens import specials

AT_ONCE = 64
"""Documents that are encoded together."""


@dataclass(frozen=True)
class Encoded:
    """A document's token ids [tokens], and which of them begin a word [tokens]; `line` is its place in the file."""

    ids: list[int]
    starts: list[bool]
    line: int = 0


def room(tokenizer: PreTrainedTokenizerBase, limit: int) -> int:
    """How many tokens of a text go into a block of `limit` tokens; none raises ModelError."""
    before, behind = specials(tokenizer)
    left = limit - len(before) - len(behind)
    if left < 1:
        raise ModelError(
            f"A block of {limit} tokens has no room for text: the tokenizer's special tokens take {limit - left}.",
            hint="Set task.max_length higher.",
        )
    return left


def parts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[list[dict[str, Any]]]:
    """The `text` of each row as parts of at most `limit` tokens, special tokens round each: `input_ids` and `starts`,
    which are True where a word begins. A text without a token is one empty part.
    """
    size = room(tokenizer, limit)
    cuts = [list(cut(whole, size)) or [whole] for whole in encode(rows, tokenizer)]
    dressed = _dressed(chain.from_iterable(cuts), tokenizer)
    return [list(islice(dressed, len(one))) for one in cuts]


def blocks(rows: Rows, tokenizer: PreTrainedTokenizerBase, limit: int, join: bool = False) -> Mapped:
    """The rows of a split as blocks of at most `limit` tokens, kept on disk: `input_ids`, `starts` and the `line` at
    which the block's text begins.

    With `join` a separator stands between documents (the tokenizer's end token, or else its separator), and every
    block but the last is full. Rows without any token are counted and said; no token at all raises DataError.
    """
    size = room(tokenizer, limit)
    documents = _told(splits.each(rows), tokenizer)
    found = (
        joined(documents, size, _separator(tokenizer))
        if join
        else chain.from_iterable(cut(document, size) for document in documents)
    )
    return keep(_dressed(found, tokenizer))


def cut(whole: Encoded, size: int) -> Iterator[Encoded]:
    """Pieces of `size` tokens, the last one shorter; none of an empty document."""
    for at in range(0, len(whole.ids), size):
        yield Encoded(whole.ids[at : at + size], whole.starts[at : at + size], whole.line)


def joined(documents: Iterable[Encoded], size: int, separator: Sequence[int]) -> Iterator[Encoded]:
    """One running text with `separator` between documents, cut into pieces of `size` tokens, the last one shorter.

    The line of a piece is that of the document to which its first token belongs.
    """
    waiting: list[tuple[int, bool, int]] = []
    for number, document in enumerate(documents):
        if number:
            waiting += [(token, True, document.line) for token in separator]
        waiting += zip(document.ids, document.starts, repeat(document.line), strict=False)
        at = 0
        while len(waiting) - at > size:  # the rest, full or not, is given at the end
            yield _piece(waiting[at : at + size])
            at += size
        waiting = waiting[at:]
    if waiting:
        yield _piece(waiting)


def _piece(tokens: Sequence[tuple[int, bool, int]]) -> Encoded:
    ids, starts, lines = zip(*tokens, strict=True)
    return Encoded(list(ids), list(starts), lines[0])


def encode(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Encoded]:
    """The `text` of every row, whole and without special tokens."""
    waiting: list[Row] = []
    for row in chain(rows, [None]):
        if row is not None:
            waiting.append(row)
        if waiting and (row is None or len(waiting) == AT_ONCE):
            yield from _encode(waiting, tokenizer)
            waiting = []


def _encode(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Encoded]:
    texts, fast = [row["text"] for row in rows], bool(tokenizer.is_fast)
    # Not verbose: a document longer than the model's limit is cut here, so the tokenizer need not warn of it.
    found = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=fast, verbose=False
    )
    for number, (row, ids) in enumerate(zip(rows, found["input_ids"], strict=True)):
        # A tokenizer that tells no places tells no words: every token is one.
        starts = (
            word_starts(row["text"], found.word_ids(number), found["offset_mapping"][number])
            if fast
            else [True] * len(ids)
        )
        yield Encoded(list(ids), starts, row.get("line", 0))


def word_starts(text: str, words: Sequence[int | None], places: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens begin a word [tokens]: where the tokenizer's own word changes, and behind white space.

    `words` are the tokenizer's numbers of words, `places` the tokens' places in the text. White space that is a token
    of its own belongs to the word that follows.
    """
    starts: list[bool] = []
    before, end, filled = None, 0, True
    for word, (first, last) in zip(words, places, strict=True):
        token = text[first:last]
        between = text[end:first]
        fresh = word != before or token[:1].isspace() or between != between.strip() or not starts
        starts.append(fresh and filled)
        filled = (filled and not starts[-1]) or bool(token.strip())
        before, end = word, last
    return starts


def size_of(text: str) -> tuple[int, int]:
    """How many words (by white space) and how many bytes (in UTF-8) a text has."""
    return len(text.split()), len(text.encode(errors="surrogatepass"))


DEFINES = {
    "perplexity": "exp of the mean loss of a predicted token: among how many tokens the model is as good as undecided. "
    "Lower is better. Not comparable between tokenizers.",
    "word_perplexity": "exp of the loss a word: comparable between tokenizers. Lower is better.",
    "bits_per_byte": "The loss in bits a byte of text: what the text could be packed into. Lower is better.",
    "byte_perplexity": "exp of the loss a byte of text: comparable between tokenizers. Lower is better.",
}
"""What the metrics of language models are."""


def perplexities(sums: np.ndarray) -> dict[str, float]:
    """What a language model's losses come to, over rows [rows, 4]: negative log-likelihood in nats, predicted tokens,
    words, bytes.

    perplexity = exp(nats / tokens), word_perplexity = exp(nats / words), bits_per_byte = nats / (bytes ln 2),
    byte_perplexity = exp(nats / bytes). NaN where there is nothing to divide by, or where the value is too large for
    a number.
    """
    nats, tokens, words, size = (float(total) for total in sums.sum(axis=0))
    return {
        "perplexity": exponential(nats, tokens),
        "word_perplexity": exponential(nats, words),
        "bits_per_byte": nats / (size * math.log(2)) if size else math.nan,
        "byte_perplexity": exponential(nats, size),
    }


def exponential(nats: float, count: float) -> float:
    """exp(nats / count); NaN where count is 0, or where the value is too large for a number."""
    try:
        return math.exp(nats / count)
    except (ZeroDivisionError, OverflowError):
        return math.nan


def _told(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Encoded]:
    """The documents that have tokens; how many have none is said at the end."""
    empty: list[int] = []
    every = 0
    for document in encode(rows, tokenizer):
        every += 1
        if document.ids:
            yield document
        else:
            empty.append(document.line)
    if len(empty) == every:
        first = f" (the first is line {empty[0]})" if empty else ""
        raise DataError(
            f"There is nothing to learn: none of the {every} rows of the training split holds a token{first}.",
            hint="Give texts in a script that the backbone's tokenizer knows.",
        )
    if empty:
        warn(
            f"{len(empty)} of {every} rows of the training split hold no token and are left out "
            f"(the first is line {empty[0]})."
        )


def _separator(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    found = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    return [] if found is None else [int(found)]


def _dressed(found: Iterable[Encoded], tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    """Pieces with the special tokens of a single text round them, which begin no word."""
    before, behind = specials(tokenizer)
    outside, beyond = [False] * len(before), [False] * len(behind)
    for one in found:
        ids, starts = [*before, *one.ids, *behind], [*outside, *one.starts, *beyond]
        yield {"input_ids": ids, "starts": starts, "line": one.line}
