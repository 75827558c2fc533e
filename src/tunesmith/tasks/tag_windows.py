"""Texts in overlapping windows, and which piece of which window speaks for a word."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from tunesmith.tasks.tag_words import Written

Piece = Literal["first", "last"]
NO_WORD = -1


@dataclass(frozen=True)
class Pieces:
    """A text as its tokenizer cuts it, special tokens apart.

    fields: the tokenizer's fields (ids, token types) [pieces]; before, after: those of the special tokens around them.
    words: the word of each piece [pieces], NO_WORD for one that holds no letter of a word.
    """

    fields: dict[str, list[int]]
    before: dict[str, list[int]]
    after: dict[str, list[int]]
    words: list[int]

    @property
    def specials(self) -> int:
        """How many special tokens stand around the text."""
        return len(self.before["input_ids"]) + len(self.after["input_ids"])


def pieces(rows: Sequence[Written], tokenizer: PreTrainedTokenizerBase) -> list[Pieces]:
    """The rows' texts cut into pieces, as the tokenizer cuts a text that was never split into words.

    So a tokenizer that marks blanks sees them, whatever its settings for words. The tokenizer must be a fast one.
    """
    encoded = tokenizer(
        [row.text for row in rows], return_offsets_mapping=True, return_special_tokens_mask=True,
        return_attention_mask=False, verbose=False,
    )  # fmt: skip
    names = [name for name in tokenizer.model_input_names if name in encoded]
    found = []
    for number, row in enumerate(rows):
        special = encoded["special_tokens_mask"][number]
        first = len(list(takewhile(bool, special)))
        last = max(first, len(special) - len(list(takewhile(bool, reversed(special)))))
        fields = {name: encoded[name][number] for name in names}
        found.append(
            Pieces(
                {name: values[first:last] for name, values in fields.items()},
                {name: values[:first] for name, values in fields.items()},
                {name: values[last:] for name, values in fields.items()},
                [_word(row, start, end) for start, end in encoded["offset_mapping"][number][first:last]],
            )
        )
    return found


def windows(count: int, width: int, overlap: int) -> list[tuple[int, int]]:
    """Stretches of at most `width` pieces that cover all `count` and share `overlap` with the next one.

    The last one ends with the text and is as wide as the others: it shares more.
    """
    if count <= width:
        return [(0, count)]
    starts = [*range(0, count - width, width - overlap), count - width]
    return [(start, start + width) for start in starts]


def speakers(words: Sequence[int], piece: Piece) -> dict[int, int]:
    """The piece that speaks for each word, by word: its first or its last; a word without pieces has none."""
    places: dict[int, int] = {}
    for place, word in enumerate(words):
        if word != NO_WORD and (piece == "last" or word not in places):
            places[word] = place
    return places


def best_window(place: int, spaces: Sequence[tuple[int, int]], count: int) -> int:
    """The window in which the piece at `place` stands farthest from an edge that cuts the text; of equals the first."""

    def depth(space: tuple[int, int]) -> float:
        start, end = space
        left = place - start if start else count
        right = end - 1 - place if end < count else count
        return min(left, right) if start <= place < end else -1

    return max(range(len(spaces)), key=lambda number: depth(spaces[number]))


def parts(cut: Pieces, piece: Piece, width: int, overlap: int, padding: int) -> list[dict[str, Any]]:
    """The windows of a text as sequences, each with `carriers`: the word that each position speaks for, or NO_WORD.

    Every word that has a piece is spoken for exactly once. A text without any token at all becomes one of `padding`.
    """
    count = len(cut.words)
    spaces = windows(count, width, overlap)
    found = [_part(cut, start, end, padding) for start, end in spaces]
    for word, place in speakers(cut.words, piece).items():
        number = best_window(place, spaces, count)
        found[number]["carriers"][len(cut.before["input_ids"]) + place - spaces[number][0]] = word
    return found


def _part(cut: Pieces, start: int, end: int, padding: int) -> dict[str, Any]:
    part = {name: [*cut.before[name], *values[start:end], *cut.after[name]] for name, values in cut.fields.items()}
    if not part["input_ids"]:
        part = {name: [padding if name == "input_ids" else 0] for name in part}
    return {**part, "carriers": [NO_WORD] * len(part["input_ids"])}


def _word(row: Written, start: int, end: int) -> int:
    """The word in which a piece's first character that is no blank stands."""
    while start < end and row.text[start].isspace():
        start += 1
    word = bisect_right(row.starts, start) - 1
    return word if start < end and word >= 0 and start < row.ends[word] else NO_WORD


def unread(examples: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The words of each example that no position speaks for: the tokenizer makes nothing of them."""
    found = []
    for example in examples:
        spoken = {word for part in example["parts"] for word in part["carriers"]}
        found.append([word for word in range(len(example["starts"])) if word not in spoken])
    return found
