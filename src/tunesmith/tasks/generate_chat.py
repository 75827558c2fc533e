"""Talks to token ids, with the positions that carry loss.

A talk is rendered as one text and tokenised once; its answers are found by the characters of that text. Nothing is
masked silently: an answer that has no token of its own is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from transformers import PreTrainedTokenizerBase

from tunesmith.core.notes import note, warn
from tunesmith.tasks.generate_formats import Turn
from tunesmith.tasks.generate_templates import ANSWERED, ASKED, Layout, Rendered, plain, rendered, unfit


@dataclass(frozen=True)
class Encoded:
    """A talk as token ids: `loss` tells of each whether it carries loss, `prompt` how many stand before the last answer
    (all, where there is none); `cut` counts the ids that were cut off.
    """

    ids: list[int]
    loss: list[bool]
    prompt: int
    cut: int = 0


@dataclass(frozen=True)
class Pair:
    """A talk for an encoder-decoder: ids to read, ids to write (none in a row to predict), how many were cut off."""

    source: list[int]
    target: list[int]
    cut: int = 0


def encode(turns: Sequence[Turn], found: Layout, loss: Literal["responses", "all"] = "responses") -> Encoded:
    """The ids that the template gives for the whole talk; every answer and the token behind it carry loss, or all ids.

    A talk that ends with the user's turn ends with the prompt for an answer. Raises DataError where the template
    changes or leaves out an answer, or asks for it in other words than it writes a talk in.
    """
    for turn in turns:
        _say_tokens(turn.content, found.tokenizer)
    talk = rendered(turns, found)
    ids, places, prompt = _tokenised(talk, found.tokenizer)
    special = set(found.tokenizer.all_special_ids)
    carries = [False] * len(ids)
    for start, end in talk.answers:
        own = prompt if start == talk.prompt else 0
        inside = [_within(places[k], start, end, ids[k] in special) for k in range(own, len(ids))]
        if not any(inside):
            raise unfit("leaves no token of an answer", talk.text[start:end])
        carries[own:] = [a or b for a, b in zip(carries[own:], inside, strict=True)]
    return Encoded(ids, [True] * len(ids) if loss == "all" else carries, prompt)


def fit(encoded: Encoded, limit: int, long: Literal["cut", "drop"]) -> Encoded | None:
    """A talk in at most `limit` ids: its beginning, or None where longer ones are dropped."""
    over = len(encoded.ids) - limit
    if over <= 0:
        return encoded
    if long == "drop":
        return None
    return Encoded(encoded.ids[:limit], encoded.loss[:limit], min(encoded.prompt, limit), over)


def encode_pair(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> Pair:
    """A talk for an encoder-decoder, without a chat template: the turns before the last answer, and that answer.

    One question (with its system text) is written as it is; several turns each under a heading. The answer ends with
    the end token; ModelError where there is none.
    """
    if tokenizer.eos_token_id is None:
        plain(tokenizer)
    asked = _asked(turns)
    if any(turn.role == "assistant" for turn in asked):
        note("An encoder-decoder learns the last answer of a talk; the earlier ones are part of what it reads.")
    headings = {"system": "", "user": ASKED, "assistant": ANSWERED} if len(asked) > 2 else {}
    source = "\n\n".join(headings.get(turn.role, "") + turn.content.strip() for turn in asked)
    target: list[int] = []
    if len(asked) < len(turns):
        target = list(tokenizer(text_target=turns[-1].content.strip(), verbose=False)["input_ids"])
        target += [tokenizer.eos_token_id] * (target[-1:] != [tokenizer.eos_token_id])
    return Pair(list(tokenizer(source, verbose=False)["input_ids"]), target)


def fit_pair(pair: Pair, limit: int, long: Literal["cut", "drop"]) -> Pair | None:
    """A pair with at most `limit` ids on either side: their beginnings (the source keeps its last id, which ends it),
    or None where longer ones are dropped.
    """
    over = max(len(pair.source) - limit, 0) + max(len(pair.target) - limit, 0)
    if not over:
        return pair
    if long == "drop":
        return None
    source = pair.source if len(pair.source) <= limit else [*pair.source[: limit - 1], pair.source[-1]]
    return Pair(source, pair.target[:limit], over)


def _asked(turns: Sequence[Turn]) -> Sequence[Turn]:
    return turns[:-1] if turns[-1].role == "assistant" else turns


def _tokenised(talk: Rendered, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[tuple[int, int]], int]:
    """The ids of a talk, the characters of each, and how many belong to the prompt, which they start with.

    Where the end of the prompt and the start of the answer would make one token, the two are tokenised apart: a model
    that answers reads the prompt alone.
    """
    bounds = sorted({bound for answer in talk.answers for bound in answer})
    ids, places = _with_places(talk.text, tokenizer, bounds)
    head = talk.text[: talk.prompt]
    prompt = _ids(head, tokenizer)
    if ids[: len(prompt)] == prompt:
        return ids, places, len(prompt)
    _, places = _with_places(head, tokenizer, [bound for bound in bounds if bound < len(head)])
    rest, behind = _continued(talk.text[len(head) :], tokenizer)
    return [*prompt, *rest], [*places, *((len(head) + a, len(head) + b) for a, b in behind)], len(prompt)


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    # The template writes all special tokens itself: none is added, or the first would stand twice.
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _with_places(
    text: str, tokenizer: PreTrainedTokenizerBase, bounds: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a text, and the characters of each; a tokenizer that can't tell them is asked for every piece between
    `bounds`.
    """
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found["input_ids"]), [(int(start), int(end)) for start, end in found["offset_mapping"]]
    ids = _ids(text, tokenizer)
    places: list[tuple[int, int]] = []
    for start, end in zip([0, *bounds], [*bounds, len(text)], strict=True):
        upto = _ids(text[:end], tokenizer)
        if ids[: len(upto)] != upto:
            raise unfit("can't be told apart from an answer by this tokenizer", text[start:end])
        places += [(start, end)] * (len(upto) - len(places))
    return ids, places


def _continued(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[tuple[int, int]]]:
    # Behind a line end: some tokenizers put a space before the first word of a text.
    before = _ids("\n", tokenizer)
    ids, places = _with_places("\n" + text, tokenizer, [1])
    if ids[: len(before)] != before:
        return _with_places(text, tokenizer, [])
    return ids[len(before) :], [(start - 1, end - 1) for start, end in places[len(before) :]]


def _within(place: tuple[int, int], start: int, end: int, special: bool) -> bool:
    """Whether a token belongs to the characters from `start` to `end`. A special token that starts before them does
    not: some swallow the space behind them.
    """
    first, last = place
    if first == last or special:
        return start <= first < end
    return first < end and last > start


@cache
def _say_token(token: str) -> None:
    warn(f"A text of the rows holds '{token}', which the tokenizer reads as a token of its own and not as text.")


def _say_tokens(content: str, tokenizer: PreTrainedTokenizerBase) -> None:
    for token in tokenizer.all_special_tokens:
        if token in content:
            _say_token(token)
