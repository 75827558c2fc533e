"""Labels of multiple choice: a choice's number, its letter or its text, and which of them a file means."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Literal

from tunesmith.core import column
from tunesmith.core.column import Row
from tunesmith.core.errors import SHOWN_FAULTS, DataError, raise_faults
from tunesmith.core.rows import line_of

Form = Literal["number", "letter", "text"]
FORMS: tuple[Form, ...] = ("number", "letter", "text")
SHOWN = 60
"""Characters of a choice that are shown."""


def choices(value: object) -> list[str]:
    """At least two texts, no two alike: a list, or in CSV one text that is a list in JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('is not a list of choices; in CSV write it as JSON: ["one", "two"]') from None
    if not isinstance(value, list):
        raise ValueError(f"is not a list of choices but {json.dumps(value, default=str)[:SHOWN]}")
    texts = [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in value]
    for number, one in enumerate(texts):
        if not isinstance(one, str) or not one.strip():
            raise ValueError(f"choice {number} is no text or blank")
    if len(texts) < 2:
        raise ValueError(f"has {len(texts)} of at least 2 choices")
    again = [one for one, count in Counter(one.strip() for one in texts).items() if count > 1]
    if again:
        raise ValueError(f"holds a choice twice: '{again[0][:SHOWN]}'")
    return texts


def place_of(label: str, texts: Sequence[str], form: Form) -> int | None:
    """The number of the choice that a label of this form names; None where it names none."""
    if form == "text":
        return next((place for place, one in enumerate(texts) if one.strip() == label), None)
    if form == "number":
        place = int(label) if re.fullmatch(r"[0-9]{1,9}", label) else len(texts)
    else:
        letter = re.fullmatch(r"\(?([A-Za-z])[).:]?", label)
        place = ord(letter[1].upper()) - ord("A") if letter else len(texts)
    return place if place < len(texts) else None


def learn(rows: Iterable[Row], given: Form | None) -> tuple[Form, Counter[int]]:
    """The form that all labels have, and how often each position is right.

    Labels that fit no form (or not the one given), or two forms of which they name different choices, raise DataError.
    """
    forms = FORMS if given is None else (given,)
    missing: Counter[Form] = Counter()
    faults: dict[Form, list[str]] = {form: [] for form in forms}
    places: dict[Form, Counter[int]] = {form: Counter() for form in forms}
    torn: dict[tuple[Form, Form], str] = {}
    for row in rows:
        read = {form: place_of(row["label"], row["choices"], form) for form in forms}
        for form, place in read.items():
            if place is not None:
                places[form][place] += 1
                continue
            missing[form] += 1
            if len(faults[form]) < SHOWN_FAULTS:
                faults[form].append(_fault(row, form))
        for one, other in combinations(forms, 2):
            if read[one] != read[other]:
                torn.setdefault((one, other), f"label '{row['label']}' of {row['choices']}")
    chosen = min(forms, key=lambda form: missing[form])
    raise_faults(
        DataError,
        f"The labels of the training rows don't name their choices (read as a choice's {chosen}):",
        faults[chosen],
        total=missing[chosen],
        hint="A label is a choice's number from 0, its letter from A, or its text; task.form says which.",
    )
    for (one, other), example in torn.items():
        if not missing[one] and not missing[other]:
            raise DataError(
                f"Labels can be read as a choice's {one} or as its {other}, which are different choices: {example}.",
                hint=f"Say which: --set task.form={one}, or {other}.",
            )
    return chosen, places[chosen]


def fits(row: Row, found: Mapping[str, str | None], form: Form) -> bool:
    """Whether a raw row has choices and a label of this form in the columns that play these roles."""
    try:
        texts, label = choices(row.get(found["choices"] or "")), column.label(row.get(found["label"] or ""))
        column.text(row.get(found["text"] or ""))
    except ValueError:
        return False
    return place_of(label, texts, form) is not None


def sentence(row: Row, form: Form) -> str:
    """What is wrong with a row whose label names no choice."""
    count = len(row["choices"])
    allowed = {
        "number": f"the numbers 0 to {count - 1}",
        "letter": f"the letters A to {chr(ord('A') + min(count, 26) - 1)}",
        "text": ", ".join(f"'{one[:SHOWN]}'" for one in row["choices"]),
    }
    return f"The label '{row['label'][:SHOWN]}' names none of the {count} choices; allowed: {allowed[form]}."


def _fault(row: Row, form: Form) -> str:
    told = sentence(row, form)
    return f"line {line_of(row)}: {told}" if "line" in row else told
