"""Windows of a text: how a question and its context are cut into them, and how spans are found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tunesmith.core import tokens
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, RecipeError
from tunesmith.core.rows import line_of
from tunesmith.tasks import span_rows
from tunesmith.tasks.span_rows import Span


@dataclass(frozen=True)
class Shape:
    """How a question and its context become windows.

    length: tokens of a window. stride: tokens that two windows share. question: most tokens of the question.
    """

    length: int
    stride: int
    question: int


@dataclass(frozen=True)
class Encoded:
    """A question with its context as token ids.

    before, after: what stands around the context in every window (the question, special tokens). context: its tokens.
    offsets: the characters of each of them. types: token types of the three, one after another, where the backbone
    knows them. cut: whether the question was cut.
    """

    before: list[int]
    context: list[int]
    after: list[int]
    offsets: list[Span]
    types: list[int] | None
    cut: bool

    def windows(self, shape: Shape) -> list[Span]:
        """First and last context token of each window: as many as it takes to see all."""
        room = shape.length - len(self.before) - len(self.after)
        last = len(self.context) - 1
        starts = range(0, max(1, len(self.context) - shape.stride), room - shape.stride)
        return [(start, min(start + room - 1, last)) for start in starts]

    def tokens_of(self, span: Span) -> Span:
        """First and last context token that hold characters of the span."""
        last_of_all = len(self.offsets) - 1
        first = next((i for i, (_, end) in enumerate(self.offsets) if end > span[0]), last_of_all)
        last = next((i for i in range(last_of_all, first, -1) if self.offsets[i][0] < span[1]), first)
        return first, last

    def part(self, window: Span, classifier: int | None) -> dict[str, Any]:
        """A window as the model gets it; the characters of each of its tokens (0, 0 outside the context); and the place
        of the token that means no answer: the classifier's, or the first where there is none.
        """
        chosen = slice(window[0], window[1] + 1)
        ids = [*self.before, *self.context[chosen], *self.after]
        outside = [[0, 0]]
        characters = [*outside * len(self.before), *map(list, self.offsets[chosen]), *outside * len(self.after)]
        silence = ids.index(classifier) if classifier in ids else 0
        part: dict[str, Any] = {"input_ids": ids, "characters": characters, "silence": silence}
        if self.types is not None:
            first, last = len(self.before), len(self.before) + len(self.context)
            part["token_type_ids"] = [*self.types[:first], *self.types[first:last][chosen], *self.types[last:]]
        return part

    def target(self, window: Span, answer: Span | None, silence: int) -> list[int]:
        """Where the answer (its first and last context token) starts and ends in a window; `silence` twice where the
        window does not hold all of it.
        """
        if answer is None or not window[0] <= answer[0] <= answer[1] <= window[1]:
            return [silence, silence]
        shift = len(self.before) - window[0]
        return [answer[0] + shift, answer[1] + shift]


def encode(
    questions: Sequence[str], contexts: Sequence[str], tokenizer: PreTrainedTokenizerBase, most: int
) -> Iterator[Encoded]:
    """Questions with their contexts as the tokenizer pairs them, whole; a question of more than `most` tokens is cut
    at its end. A tokenizer that would put nothing between the two is helped: see `tokens.around`.
    """
    if tokens.glues(tokenizer):
        yield from _delimited(questions, contexts, tokenizer, most)
        return
    whole = tokenizer(
        list(questions), list(contexts), add_special_tokens=True, return_attention_mask=False,
        return_offsets_mapping=True, verbose=False,
    )  # fmt: skip
    typed = "token_type_ids" in tokenizer.model_input_names and "token_type_ids" in whole
    for number, (ids, offsets) in enumerate(zip(whole["input_ids"], whole["offset_mapping"], strict=True)):
        types = whole["token_type_ids"][number] if typed else None
        owners = whole.sequence_ids(number)
        asked = [place for place, owner in enumerate(owners) if owner == 0]
        inside = [place for place, owner in enumerate(owners) if owner == 1]
        first, last = (inside[0], inside[-1]) if inside else (len(ids), len(ids) - 1)
        before = [place for place in range(first) if place not in set(asked[most:])]
        yield Encoded(
            before=[ids[place] for place in before],
            context=ids[first : last + 1],
            after=ids[last + 1 :],
            offsets=[(start, end) for start, end in offsets[first : last + 1]],
            types=None if types is None else [types[place] for place in (*before, *range(first, len(ids)))],
            cut=len(asked) > most,
        )


def _delimited(
    questions: Sequence[str], contexts: Sequence[str], tokenizer: PreTrainedTokenizerBase, most: int
) -> Iterator[Encoded]:
    before, between, after = tokens.around(tokenizer)
    asked = tokenizer(list(questions), add_special_tokens=False, verbose=False)["input_ids"]
    read = tokenizer(list(contexts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for question, ids, offsets in zip(asked, read["input_ids"], read["offset_mapping"], strict=True):
        start = [*before, *question[:most], *between]
        yield Encoded(start, ids, after, list(map(tuple, offsets)), None, len(question) > most)


def example(row: Row, one: Encoded, shape: Shape, classifier: int | None) -> dict[str, Any]:
    """The example of a row: its windows (`parts`), with where the row's first answer starts and ends in each; how many
    tokens that answer has (0: there is none, or no window holds it); whether the question was cut.

    A question that leaves its windows no room raises RecipeError.
    """
    if not one.context:
        raise DataError(f"The context of {named(row)} holds nothing that the tokenizer knows.", hint="Mend the row.")
    room = shape.length - len(one.before) - len(one.after)
    if room <= shape.stride:
        raise RecipeError(
            f"Beside the question of {named(row)} a window of {shape.length} tokens has {max(room, 0)} left for "
            f"the context: windows that share {shape.stride} would not move on.",
            hint="Lower task.stride or task.question_length, or raise task.max_length.",
        )
    windows = one.windows(shape)
    parts = [one.part(window, classifier) for window in windows]
    found: dict[str, Any] = {"parts": parts, "context": row["context"], "answer_tokens": 0, "cut": one.cut}
    if "answers" not in row:
        return found
    placed = span_rows.place(row["context"], row["answers"])
    answer = one.tokens_of(placed[0]) if placed else None
    for part, window in zip(parts, windows, strict=True):
        part["target"] = one.target(window, answer, part["silence"])
    if answer is not None and any(low <= answer[0] and answer[1] <= high for low, high in windows):
        found["answer_tokens"] = answer[1] - answer[0] + 1
    return found


def named(row: Row) -> str:
    """How a message calls a row."""
    return f"line {line_of(row)}" if "line" in row else f"the question {row['question']!r}"


def likeliest(starts: Tensor, ends: Tensor, inside: Tensor, longest: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best spans of each window: scores s_i + e_j, first tokens i and last tokens j, each [windows, count].

    starts, ends and inside (truth values: may the token be in an answer) are [windows, time]; i <= j < i + longest.
    Where there are fewer spans the score is -inf.
    """
    starts, ends = (scores.float().masked_fill(~inside, -torch.inf) for scores in (starts, ends))
    time = starts.shape[1]
    longest = min(longest, time)
    padded = torch.nn.functional.pad(ends, (0, longest - 1), value=-torch.inf)
    sums = starts[:, :, None] + padded.unfold(1, longest, 1)  # [windows, time, longest]
    best = sums.flatten(1).topk(min(count, time * longest), dim=1)
    first = best.indices // longest
    return best.values, first, first + best.indices % longest


def trimmed(context: str, span: Span) -> Span:
    """The span without the white space at its ends."""
    text = context[span[0] : span[1]]
    start = span[0] + len(text) - len(text.lstrip())
    return start, start + len(text.strip())
