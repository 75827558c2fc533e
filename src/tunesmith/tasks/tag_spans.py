"""Spans in sequences of tags: how they are read, what is legal, how an illegal sequence is repaired, how they count.

Three schemes. `bio`: a span is `B-x I-x …`, what is in none is `O` (Ramshaw and Marcus, 1995; IOB2). `iobes`: its last
word is `E-x`, and a span of one word is `S-x`. `none`: every tag stands for itself, as parts of speech do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

Scheme = Literal["bio", "iobes", "none"]
Tags = tuple[str, ...]

OUTSIDE = "O"
TYPELESS = "_"
"""The type of a bare `B` or `I`."""
LETTERS = {"bio": "BI", "iobes": "BIES"}
FORM = re.compile(r"([BIES])(?:-(.*))?")
ENOUGH = 1 << 15
METRICS = {
    "f1": "The harmonic mean of precision and recall of spans, over all types together, as seqeval counts them.",
    "precision": "The share of the spans given that are right: same words, same type.",
    "recall": "The share of the right spans that were given.",
    "accuracy": "The share of words with the right tag.",
}


class Span(NamedTuple):
    """Words `start` to `end` (the first behind it) are one thing of type `kind`."""

    kind: str
    start: int
    end: int


@cache
def read(tag: str) -> tuple[str, str]:
    """Letter and type of a tag: `B-x` gives ("B", "x"), `O` ("O", ""), and a tag of no such form ("", tag)."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = FORM.fullmatch(tag)
    return (found[1], found[2] or TYPELESS) if found else ("", tag)


def spans(tags: Sequence[str], scheme: str) -> list[Span]:
    """The spans of a sequence; in the scheme `none` every word is one.

    An illegal sequence is read leniently, as seqeval does by default: an `I` or `E` that goes on no span of its type
    begins one.
    """
    if scheme == "none":
        return [Span(tag, place, place + 1) for place, tag in enumerate(tags)]
    found: list[Span] = []
    before = (OUTSIDE, "")
    for place, tag in enumerate(tags):
        letter, kind = read(tag)
        if letter in ("I", "E") and before in (("B", kind), ("I", kind)):
            found[-1] = found[-1]._replace(end=place + 1)
        elif letter not in ("", OUTSIDE):
            found.append(Span(kind, place, place + 1))
        before = letter, kind
    return found


def fault(tags: Sequence[str], scheme: str) -> str:
    """What is illegal in a sequence, as the sentence of its first such word; "" where nothing is."""
    if scheme == "none":
        return ""
    letters = LETTERS[scheme]
    open_kind: str | None = None  # the type of a span that may or, in iobes, must go on
    for place, tag in enumerate(tags, 1):
        letter, kind = read(tag)
        if letter != OUTSIDE and letter not in tuple(letters):
            return f"word {place}: '{tag}' is no tag of the scheme {scheme}: O, or one of {letters} before - and a type"
        if letter in ("I", "E") and kind != open_kind:
            return f"word {place}: {tag} goes on no span of its type (the tag before it: {_before(tags, place)})"
        if scheme == "iobes" and open_kind is not None and letter not in ("I", "E"):
            return f"word {place}: {tag} follows {tags[place - 2]}, whose span has no end"
        open_kind = kind if letter in ("B", "I") else None
    ended = scheme != "iobes" or open_kind is None
    return "" if ended else f"word {len(tags)}: {tags[-1]} is the last tag, and its span has no end"


def repaired(tags: Sequence[str], scheme: str) -> Tags:
    """A legal sequence with the same spans, as they are read leniently; all tags must be of the scheme."""
    if scheme == "none":
        return tuple(tags)
    found = list(tags)
    for span in spans(tags, scheme):
        width = span.end - span.start
        inner = ["B", *"I" * (width - 1)]
        if scheme == "iobes":
            inner = ["S"] if width == 1 else [*inner[:-1], "E"]
        found[span.start : span.end] = [letter + tags[span.start][1:] for letter in inner]
    return tuple(found)


def detected(tags: Iterable[str]) -> tuple[Scheme, list[str]]:
    """The scheme in which these different tags are written, and those that are strays in it (the scheme is `none`).

    Without any typed tag (`B-x`) a single tag of another form means that every tag stands for itself.
    """
    forms = {tag: read(tag)[0] for tag in tags}
    strays = sorted(tag for tag, letter in forms.items() if not letter)
    typed = any(letter and "-" in tag for tag, letter in forms.items())
    if strays:
        return "none", strays if typed else []
    letters = set(forms.values()) - {OUTSIDE}
    if not typed and "B" not in letters:
        return "none", []
    return ("iobes" if letters & {"E", "S"} else "bio"), []


class Tally:
    """Counts of rows' tags against their answers; each pair of sequences is compared once, however often it is drawn.

    An answer that is one text stands for that tag on every word.
    """

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._forget()

    def _forget(self) -> None:
        # By identity, which costs nothing to look up; what is kept here keeps its identity.
        self._places: dict[tuple[int, int], int] = {}
        self._pairs: list[tuple[Tags, Tags | str]] = []
        self._counts = np.zeros((0, 5), dtype=np.int64)

    def counts(self, truths: Sequence[Tags], answers: Sequence[Tags | str]) -> np.ndarray:
        """Right spans, given spans, true spans, right words, words: [5], summed over the rows."""
        if len(self._pairs) > 4 * max(ENOUGH, len(truths)):
            self._forget()
        keys = list(zip(map(id, truths), map(id, answers), strict=True))
        pairs = zip(truths, answers, strict=True)
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._places}
        if new:
            self._places.update(zip(new, range(len(self._pairs), len(self._pairs) + len(new)), strict=True))
            self._pairs += new.values()
            compared = [self._compared(*pair) for pair in new.values()]
            self._counts = np.concatenate([self._counts, compared])
        summed: np.ndarray = self._counts[[self._places[key] for key in keys]].sum(axis=0)
        return summed

    def _compared(self, truth: Tags, answer: Tags | str) -> tuple[int, int, int, int, int]:
        given = (answer,) * len(truth) if isinstance(answer, str) else answer
        true_spans, given_spans = set(spans(truth, self._scheme)), set(spans(given, self._scheme))
        right = sum(one == other for one, other in zip(truth, given, strict=False))
        return len(true_spans & given_spans), len(given_spans), len(true_spans), right, len(truth)


def scores(right: float, given: float, true: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of counted spans; 0 where there are spans on one side alone, NaN where there are none.

    precision = right / given, recall = right / true, F1 = 2 right / (given + true).
    """
    if not given and not true:
        return (float("nan"),) * 3
    return float(right / max(given, 1)), float(right / max(true, 1)), float(2 * right / (given + true))


def by_kind(truths: Iterable[Tags], answers: Iterable[Tags], scheme: str) -> dict[str, tuple[int, int, int]]:
    """Right, given and true spans of every type that occurs, by type in the order of the alphabet."""
    right: Counter[str] = Counter()
    given, true = right.copy(), right.copy()
    for truth, answer in zip(truths, answers, strict=True):
        true_spans, given_spans = set(spans(truth, scheme)), set(spans(answer, scheme))
        for counter, found in ((right, true_spans & given_spans), (given, given_spans), (true, true_spans)):
            counter.update(span.kind for span in found)
    return {kind: (right[kind], given[kind], true[kind]) for kind in sorted(true | given)}


def _before(tags: Sequence[str], place: int) -> str:
    return tags[place - 2] if place > 1 else "none"
