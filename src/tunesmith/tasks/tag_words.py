"""Words and their tags as files hold them, and where every word stands in its text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.core import column
from tunesmith.tasks import tag_spans

WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True)
class Written:
    """The words of a row as one text; word i is `text[starts[i]:ends[i]]`.

    whole: True where the row was one text, which is then `text`; a list of words is joined by blanks.
    """

    text: str
    starts: list[int]
    ends: list[int]
    whole: bool

    @property
    def words(self) -> list[str]:
        """The words alone."""
        return [self.text[start:end] for start, end in zip(self.starts, self.ends, strict=True)]


def words(value: object) -> list[str]:
    """The words of a cell: a list of texts, or one text that is split at blanks.

    The words of a text keep the blanks around them (the last gets one more), so that the text is not lost and is told
    from a list, whose words have none. Raises ValueError with what the cell is instead.
    """
    value = _listed(value)
    if isinstance(value, str):
        return WORD.findall(column.text(value) + " ")
    if not isinstance(value, list) or not value:
        raise ValueError(f"is neither a list of words nor a text but {json.dumps(value, default=str)}")
    for place, word in enumerate(value, 1):
        if not isinstance(word, str):
            raise ValueError(f"word {place} is not a text but {json.dumps(word, default=str)}")
        if not word:
            raise ValueError(f"word {place} is empty")
    return [word.strip() or word for word in value]


def tags(value: object, scheme: str, repair: bool, names: Sequence[str] | None) -> list[str]:
    """The tags of a cell: a list, or one text with blanks between; numbers become the `names` at their places.

    Raises ValueError: no tags, a number without a name, and a sequence that is illegal in the scheme unless it can and
    will be repaired. With the scheme `auto` a sequence is illegal if it is so in every scheme that it could be of.
    """
    value = _listed(value)
    if isinstance(value, str):
        value = column.text(value).split()
    if not isinstance(value, list) or not value:
        raise ValueError(f"is neither a list of tags nor a text but {json.dumps(value, default=str)}")
    found = [_named(tag, place, names) for place, tag in enumerate(value, 1)]
    # Of a tag that the scheme does not have no repair makes one.
    left = "" if scheme == "auto" else tag_spans.fault(tag_spans.repaired(found, scheme), scheme)
    fault = left or ("" if repair else _fault(found, scheme))
    if fault:
        raise ValueError(fault if left else f"{fault}; task.repair=true would repair it")
    return found


def length(row_words: object, row_tags: object) -> int:
    """How many words two raw cells hold; 0 where they don't hold words and as many tags."""
    try:
        count = len(words(row_words))
        return count if count == len(tags(row_tags, "none", True, None)) else 0
    except ValueError:
        return 0


def written(row_words: Sequence[str]) -> Written:
    """Where the words stand, from what `words` gave."""
    whole = all(word[-1].isspace() and word.strip() for word in row_words)
    text, starts, ends = "", [], []
    for word in row_words:
        lead = len(word) - len(word.lstrip()) if whole else 0
        starts.append(len(text) + lead)
        ends.append(len(text) + len(word.rstrip() if whole else word))
        text += word if whole else f"{word} "
    return Written(text[:-1], starts, ends, whole)


def _listed(value: object) -> object:
    """A list where a cell of text holds one as JSON; a list as Python prints it is refused."""
    if not isinstance(value, str) or not value.startswith(("['", '["')) or not value.endswith(("']", '"]')):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("is a list as Python prints it: write lists as JSON, or as words with blanks") from None


def _named(value: object, place: int, names: Sequence[str] | None) -> str:
    try:
        tag = column.label(value)
    except ValueError:
        raise ValueError(f"tag {place} is neither a name nor a number but {json.dumps(value, default=str)}") from None
    if names is None or tag in names:
        return tag
    if not tag.isdecimal():
        raise ValueError(f"tag {place} is '{tag}', which is not among task.names: {', '.join(names)}")
    if int(tag) >= len(names):
        raise ValueError(f"tag {place} is {tag}, but task.names has {len(names)} names, for 0 to {len(names) - 1}")
    return names[int(tag)]


def _fault(found: Sequence[str], scheme: str) -> str:
    if scheme != "auto":
        return tag_spans.fault(found, scheme)
    # Of one row alone only this can be said; which scheme it is, all rows together tell.
    letters = {tag: tag_spans.read(tag)[0] for tag in found}
    typed = any(letter and "-" in tag for tag, letter in letters.items())
    if not typed or not all(letters.values()) or not tag_spans.fault(found, "iobes"):
        return ""
    return tag_spans.fault(found, "iobes" if set(letters.values()) & {"E", "S"} else "bio")
