"""What a training split says of its tags: which there are, in which scheme, what is illegal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tunesmith.core.column import Row
from tunesmith.core.errors import SHOWN_FAULTS, DataError, raise_faults
from tunesmith.core.notes import note, warn
from tunesmith.core.rows import line_of
from tunesmith.tasks import tag_spans

SHOWN_NAMES = 20


@dataclass
class Reading:
    """The rows as one scheme reads them: their tags, repaired; how many rows and tags that changes, and the first fault
    of these; what is illegal and stays so.
    """

    scheme: str
    counts: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    tags: int = 0
    first: str = ""
    illegal_rows: int = 0
    illegal: list[str] = field(default_factory=list)

    def add(self, row: Row, repair: bool) -> None:
        """Take one row; it must be legal, or else it is repaired, or noted as illegal."""
        mended = tag_spans.repaired(row["tags"], self.scheme) if repair else tuple(row["tags"])
        changed = sum(one != other for one, other in zip(row["tags"], mended, strict=True))
        if changed:
            self.first = self.first or _told(row, tag_spans.fault(row["tags"], self.scheme))
            self.rows, self.tags = self.rows + 1, self.tags + changed
        # Nothing can be made of a tag that the scheme does not have.
        if fault := tag_spans.fault(mended, self.scheme):
            self.illegal_rows += 1
            if len(self.illegal) < SHOWN_FAULTS:
                self.illegal.append(_told(row, fault))
        self.counts.update(mended)


class Survey:
    """Counts in one pass, for every scheme that the tags could be of."""

    def __init__(self, scheme: str, repair: bool) -> None:
        self._given, self._repair = scheme, repair
        self._readings = {name: Reading(name) for name in (("bio", "iobes", "none") if scheme == "auto" else (scheme,))}

    def add(self, row: Row) -> None:
        """Take one row."""
        for reading in self._readings.values():
            reading.add(row, self._repair)

    def settle(self) -> tuple[str, Counter[str]]:
        """The scheme and how often each tag occurs; said. Illegal rows, strays and a single tag raise DataError."""
        scheme = self._detected() if self._given == "auto" else self._given
        reading = self._readings[scheme]
        ways = "another task.scheme" if self._repair else "task.repair=true or another task.scheme"
        raise_faults(
            DataError, f"Tags of training rows are illegal in the scheme {scheme}:", reading.illegal,
            total=reading.illegal_rows, hint=f"Mend the file, or set {ways}.",
        )  # fmt: skip
        _check_several(reading)
        self._say(reading)
        return scheme, reading.counts

    def _detected(self) -> str:
        counts = self._readings["none"].counts
        scheme, strays = tag_spans.detected(counts)
        if strays:
            shown = ", ".join(f"'{tag}' ({counts[tag]:,})" for tag in strays[:10])
            raise DataError(
                f"Some tags mark spans (such as '{_typed(counts)}'), and {len(strays)} have no such form: {shown}.",
                hint="Mend them, or name the scheme: task.scheme=bio, iobes, or none (each tag stands for itself).",
            )
        if scheme == "none" and self._given == "auto" and all(tag.isdecimal() for tag in counts):
            warn("All tags are numbers: each stands for itself. Give their names with task.names, in their order.")
        return scheme

    def _say(self, reading: Reading) -> None:
        found = " (found by looking at them)" if self._given == "auto" else ""
        what, names = "tags", set(reading.counts)
        if reading.scheme != "none":
            what, names = "types", {tag_spans.read(tag)[1] for tag in reading.counts} - {""}
        shown = ", ".join([*sorted(names)[:SHOWN_NAMES], *(["…"] if len(names) > SHOWN_NAMES else [])])
        words = sum(reading.counts.values())
        note(
            f"Tags: scheme {reading.scheme}{found}; {len(reading.counts)} tags on {words:,} training words; "
            f"{what}: {shown}."
        )
        if reading.rows:
            warn(
                f"Illegal tags were repaired in {reading.rows:,} training rows ({reading.tags:,} tags); the first: "
                f"{reading.first}."
            )


def _told(row: Row, fault: str) -> str:
    return f"line {line_of(row)}, {fault}" if "line" in row else fault


def _check_several(reading: Reading) -> None:
    if len(reading.counts) < 2:
        (tag, count), *_ = reading.counts.items()
        raise DataError(
            f"All {count:,} words of the training rows have the tag '{tag}': there is nothing to learn.",
            hint="Give rows with at least two tags, or another column as task.tags.",
        )


def _typed(counts: Counter[str]) -> str:
    return next(tag for tag in counts if tag_spans.read(tag)[0] and "-" in tag)
