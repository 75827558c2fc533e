"""Changes of texts that keep their meaning, as pure functions of a text, a strength and a random generator.

A change knows the places of a text where it can act, and what it makes of one of them. How many places it takes is the
strength: a share of them, on average over texts. A stronger change takes the places of a weaker one and more, where the
generator has the same seed, so that curves over the strength are smooth. Because changes are edits of places,
characters that carry a label can be kept, and what stands behind them can be found again.

Letters are changed in words of four letters and more, of scripts with capitals (Latin, Greek, Cyrillic, …) and without
marks of their own (combining accents); mistyped, swapped, dropped and doubled is never the first letter nor the last:
such words stay readable. Markup, addresses and names with @ or # are left alone. Nothing here is learned; short forms,
names and the further sentence are English.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from typing import NamedTuple

from tunesmith.evaluate import robustness_english as english

Span = tuple[int, int]
"""Characters, from the first up to (without) the second."""

MARKUP = re.compile(r"<[^<>]{1,300}>|&#?\w{1,20};|https?://\S+|www\.\S+|[\w.+-]{1,64}@[\w.-]{1,255}|[@#]\w+")
LETTERS = re.compile(r"[^\W\d_]{4,}")
WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’][^\W\d_]+)*")
BLANK = re.compile(r"(?<=\S) (?=\S)")
BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_]{4}) (?=[^\W\d_]{4})")
NUMBER = re.compile(r"(?<![\w.,:/%#+*-])(?<!out of )[0-9]{2,6}(?![\w:/%*]|[.,-]\d| out of )")
CLOSING = ".!?…"
JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""Signs that act on the letter beside them."""

KEYS = {
    one: "".join(row[place] for place in (at - 1, at + 1) if 0 <= place < len(row))
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for at, one in enumerate(row)
}
LOOKS = dict(zip("aceiopsxyjABCEHIKMOPTX", "асеіорѕхујАВСЕНІКМОРТХ", strict=True))
"""Latin letters, and the Cyrillic ones that look like them."""


class Edit(NamedTuple):
    """`new` stands for the characters from `start` up to (without) `end`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Change:
    """find: the places of a text where it can act, none empty, in their order. make: what it makes of what stands at a
    place, always something else. whole: whether it has no strengths, as there is one place, or few. inside: whether it
    stays within words, so that their number is kept.
    """

    told: str
    find: Callable[[str], list[Span]]
    make: Callable[[str, Random], str]
    whole: bool = False
    inside: bool = False


def edits(change: Change, text: str, strength: float, draw: Random, kept: Sequence[Span] = ()) -> list[Edit]:
    """What a change does to a text, in the order of the text. kept: characters that stay.

    Of n places floor(strength * n + u) are taken, u from [0, 1): on average the share `strength`, none at strength 0.
    """
    places = _apart(change.find(text), [*kept, *(found.span() for found in MARKUP.finditer(text))])
    taken = min(len(places), int(strength * len(places) + draw.random()))
    order = draw.sample(range(len(places)), len(places))
    found = [Edit(*places[one], change.make(text[slice(*places[one])], draw)) for one in order[:taken]]
    return sorted(found)


def applied(text: str, found: Sequence[Edit]) -> str:
    """The text after its edits."""
    pieces, end = [], 0
    for edit in found:
        pieces += [text[end : edit.start], edit.new]
        end = edit.end
    return "".join([*pieces, text[end:]])


def moved(found: Sequence[Edit], place: int) -> int:
    """Where the character at `place`, which no edit touches, stands after the edits."""
    return place + sum(len(edit.new) - (edit.end - edit.start) for edit in found if edit.end <= place)


def changed(name: str, text: str, strength: float, draw: Random) -> str:
    """The text after a change of CHANGES."""
    return applied(text, edits(CHANGES[name], text, strength, draw))


def _apart(places: Sequence[Span], kept: Sequence[Span]) -> list[Span]:
    """The places that share no character with what is kept."""
    ordered = sorted(kept)
    starts, ends = [start for start, _ in ordered], list(accumulate((end for _, end in ordered), max))
    before = [bisect_left(starts, end) for _, end in places]
    return [place for place, one in zip(places, before, strict=True) if not one or ends[one - 1] <= place[0]]


def _matches(pattern: re.Pattern[str], fits: Callable[[str], bool] = bool) -> Callable[[str], list[Span]]:
    """Finds what a pattern matches, if it fits and no mark belongs to one of its letters."""

    def find(text: str) -> list[Span]:
        found = (one for one in pattern.finditer(text) if fits(one[0]))
        return [one.span() for one in found if not _is_marked(text, *one.span())]

    return find


def _words(possible: Callable[[str], bool]) -> Callable[[str], list[Span]]:
    """Finds words of scripts with capitals in which a change of letters is possible."""
    return _matches(LETTERS, lambda word: possible(word) and all(one.lower() != one.upper() for one in word))


def _is_marked(text: str, start: int, end: int) -> bool:
    """Whether a mark stands beside these characters, and so belongs to a letter that they begin or end with."""
    beside = text[max(0, start - 1) : start] + text[end : end + 1]
    return any(one in JOINERS or unicodedata.category(one).startswith("M") for one in beside)


def _with_key(word: str) -> list[int]:
    return [place for place in range(1, len(word) - 1) if word[place].lower() in KEYS]


def _mistyped(word: str, draw: Random) -> str:
    place = draw.choice(_with_key(word))
    key = draw.choice(KEYS[word[place].lower()])
    return word[:place] + (key.upper() if word[place].isupper() else key) + word[place + 1 :]


def _unlike(word: str) -> list[int]:
    """Inner letters that differ from the next inner one."""
    return [place for place, (one, other) in enumerate(pairwise(word[1:-1]), 1) if one != other]


def _swapped(word: str, draw: Random) -> str:
    place = draw.choice(_unlike(word))
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _dropped(word: str, draw: Random) -> str:
    place = draw.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1 :]


def _doubled(word: str, draw: Random) -> str:
    place = draw.randrange(1, len(word) - 1)
    return word[: place + 1] + word[place:]


def _with_look(word: str) -> list[int]:
    return [place for place, letter in enumerate(word) if letter in LOOKS]


def _disguised(word: str, draw: Random) -> str:
    place = draw.choice(_with_look(word))
    return word[:place] + LOOKS[word[place]] + word[place + 1 :]


def _headed(word: str) -> str:
    return word[0].upper() + word[1:]


def _last(text: str) -> list[Span]:
    """The last character that is no blank."""
    end = len(text.rstrip())
    return [(end - 1, end)] if end else []


def _marks_at_the_end(text: str) -> list[Span]:
    """The marks that close the text, behind a letter or number."""
    whole = text.rstrip()
    bare = whole.rstrip(CLOSING)
    return [(len(bare), len(whole))] if len(bare) < len(whole) and bare and bare[-1].isalnum() else []


def _closed(last: str, draw: Random) -> str:
    return last + {"?": "?", "!": "!", ".": ".."}.get(last, ".")


def _followed(last: str, draw: Random) -> str:
    return f"{last}{'.' if last.isalnum() else ''} {draw.choice(english.SENTENCES)}"


def _renumbered(number: str, draw: Random) -> str:
    """The number beside it, the same one wherever it stands: 84 for 85, and 85 for 84."""
    return f"{number[:-1]}{int(number[-1]) ^ 1}"


CHANGES: dict[str, Change] = {
    "keyboard": Change("a letter becomes the one on the key beside it", _words(lambda w: bool(_with_key(w))),
                       _mistyped, inside=True),
    "swapped": Change("two letters change places", _words(lambda w: bool(_unlike(w))), _swapped, inside=True),
    "dropped": Change("a letter is missing", _words(bool), _dropped, inside=True),
    "doubled": Change("a letter stands twice", _words(bool), _doubled, inside=True),
    "look_alikes": Change("a Latin letter becomes a Cyrillic one that looks like it",
                          _words(lambda w: bool(_with_look(w))), _disguised, inside=True),
    "lower": Change("words in small letters", _matches(WORD, lambda w: w != w.lower()), lambda w, _: w.lower(),
                    inside=True),
    "upper": Change("words in capitals", _matches(WORD, lambda w: w != w.upper()), lambda w, _: w.upper(),
                    inside=True),
    "heads": Change("words begin with a capital", _matches(WORD, lambda w: w != _headed(w)), lambda w, _: _headed(w),
                    inside=True),
    "wide": Change("two blanks between words", _matches(BLANK), lambda blank, _: blank * 2),
    "joined": Change("no blank between two words", _matches(BETWEEN_WORDS), lambda blank, _: ""),
    "unclosed": Change("no mark at the end", _marks_at_the_end, lambda marks, _: "", whole=True),
    "closed": Change("one more mark at the end", _last, _closed, whole=True),
    "short_forms": Change("do not becomes don't", _matches(english.LONG), lambda w, _: english.shortened(w),
                          whole=True),
    "long_forms": Change("don't becomes do not", _matches(english.SHORT), lambda w, _: english.lengthened(w),
                         whole=True),
    "names": Change("other people and cities", _matches(english.NAME), english.renamed, whole=True),
    "numbers": Change("numbers of two and more digits become their neighbours", _matches(NUMBER), _renumbered,
                      whole=True),
    "sentence": Change("a further sentence that belongs to nothing", _last, _followed, whole=True),
}  # fmt: skip
"""Every change, by its name."""
