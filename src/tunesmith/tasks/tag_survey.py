"""What a training split says of its tags: which there are, in which scheme, what is illegal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tunesmith.core.column import Row
from tunesmith.core.errors import SHOWN_FAULTS, DataError, raise_faults
from tunesmith.core.notes import note, warn
from tunesmith.tasks import entities


@dataclass
class Reading:
    """The rows as one scheme reads them: their tags, repaired; how many rows and tags that changes; what is illegal."""

    scheme: str
    counts: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    tags: int = 0
    illegal: list[str] = field(default_factory=list)

    def add(self, row: Row, repair: bool) -> None:
        """Take one row; it must be legal, or else it is repaired, or noted as illegal."""
        tags = row["tags"]
        fault = entities.fault(tags, self.scheme)
        if fault:
            mended = entities.repaired(tags, self.scheme) if repair else tuple(tags)
            self.tags += sum(one != other for one, other in zip(tags, mended, strict=True))
            self.rows += 1
            if len(self.illegal) < SHOWN_FAULTS:
                self.illegal.append(f"line {row['line']}, {fault}" if "line" in row else fault)
            tags = mended
        self.counts.update(tags)


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
        if not self._repair:
            raise_faults(
                DataError, f"Tags of training rows are illegal in the scheme {scheme}:", reading.illegal,
                total=reading.rows, hint="Mend the file, or set task.repair=true or another task.scheme.",
            )  # fmt: skip
        _check_several(reading)
        self._say(reading)
        return scheme, reading.counts

    def _detected(self) -> str:
        counts = self._readings["none"].counts
        scheme, strays = entities.detected(counts)
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
        kinds = sorted({entities.read(tag)[1] for tag in reading.counts} - {""})
        found = " (found by looking at them)" if self._given == "auto" else ""
        what = "tags" if reading.scheme == "none" else "types"
        shown = ", ".join(kinds[:20] if reading.scheme != "none" else sorted(reading.counts)[:20])
        words = sum(reading.counts.values())
        note(
            f"Tags: scheme {reading.scheme}{found}; {len(reading.counts)} tags on {words:,} training words; "
            f"{what}: {shown}{', …' if max(len(kinds), len(reading.counts)) > 20 else ''}."
        )
        if reading.rows:
            warn(
                f"Illegal tags were repaired in {reading.rows:,} training rows ({reading.tags:,} tags); the first: "
                f"{reading.illegal[0]}."
            )


def _check_several(reading: Reading) -> None:
    if len(reading.counts) < 2:
        (tag, count), *_ = reading.counts.items()
        raise DataError(
            f"All {count:,} words of the training rows have the tag '{tag}': there is nothing to learn.",
            hint="Give rows with at least two tags, or another column as task.tags.",
        )


def _typed(counts: Counter[str]) -> str:
    return next(tag for tag in counts if entities.read(tag)[0] and "-" in tag)
