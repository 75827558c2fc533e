"""Texts that stand more than once: within training, and on both sides of a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.core.errors import DataError, raise_faults
from tunesmith.data.scan import Place, Scan
from tunesmith.data.slices import Slice

SHOWN = 5
# Who must not repeat whom: training comes first, and validation gives way to test.
PAIRS = (("validation", "train"), ("test", "train"), ("validation", "test"))


@dataclass(frozen=True)
class Repeats:
    """Within one split: rows whose text stood before; texts with different answers; lines of the first such pairs."""

    rows: int
    contradictions: int
    lines: list[tuple[Place, Place]]


@dataclass(frozen=True)
class Overlap:
    """`rows` of `split` have a text of `other`; the first stands in `line`, and there in `other_line`."""

    split: str
    other: str
    rows: int
    line: Place
    other_line: Place


def repeats(scan: Scan) -> Repeats:
    """Count exact repetitions of texts within a split."""
    order = np.argsort(scan.keys, kind="stable")
    keys, answers = scan.keys[order], scan.answers[order]
    again = keys[1:] == keys[:-1]
    differs = again & (answers[1:] != answers[:-1])
    pairs = sorted(zip(order[:-1][differs].tolist(), order[1:][differs].tolist(), strict=True))[:SHOWN]
    lines = [(scan.place(one), scan.place(other)) for one, other in pairs]
    return Repeats(int(again.sum()), len(np.unique(keys[1:][differs])), lines)


def overlaps(splits: Mapping[str, Slice]) -> list[Overlap]:
    """The pairs of splits that share texts."""
    found = []
    for split, other in PAIRS:
        if split in splits and other in splits:
            one, two = splits[split].scan, splits[other].scan
            shared = np.flatnonzero(np.isin(one.keys, two.keys))
            if len(shared):
                there = np.flatnonzero(two.keys == one.keys[shared[0]])[0]
                lines = one.place(int(shared[0])), two.place(int(there))
                found.append(Overlap(split, other, len(shared), *lines))
    return found


def without_leaks(
    splits: Mapping[str, Slice], found: list[Overlap], *, leaks: Literal["drop", "keep", "refuse"]
) -> dict[str, Slice]:
    """The splits after their overlaps were dropped, or kept; raise DataError if they are refused."""
    cleaned = dict(splits)
    if leaks == "refuse":
        faults = [sentence(overlap) for overlap in found]
        raise_faults(
            DataError, "Texts stand in more than one split:", faults, hint="Remove them, or set data.leaks to drop."
        )
    if leaks == "drop":
        for overlap in found:
            one, two = cleaned[overlap.split], splits[overlap.other].scan
            cleaned[overlap.split] = one.take(np.flatnonzero(~np.isin(one.scan.keys, two.keys)))
    return cleaned


def sentence(overlap: Overlap) -> str:
    """What the user reads of an overlap."""
    return (
        f"{overlap.split}: {counted(overlap.rows, 'row stands', 'rows stand')} in {overlap.other} too, word for word; "
        f"the first is line {overlap.line} (there line {overlap.other_line})"
    )


def counted(count: int, one: str, many: str) -> str:
    """`1 row stands`, `2 rows stand`."""
    return f"{count:,} {one if count == 1 else many}"
