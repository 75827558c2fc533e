"""Faults that only show over all rows of a split; everything found is raised together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from tunesmith.core.column import Column
from tunesmith.core.errors import DataError, raise_faults
from tunesmith.data.columns import inputs
from tunesmith.data.slices import Slice

NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
LEAST_ROWS = 2


def check(files: Mapping[str, Slice], splits: Mapping[str, Slice], *, columns: Sequence[Column]) -> None:
    """Raise DataError if models can't be trained or judged on these rows.

    files: every file as a whole, before it was split; those that train are one. splits: what trains and what judges.
    """
    faults = list(_sizes(splits))
    train = splits["train"]
    if len(train.scan) >= LEAST_ROWS:
        faults += _sameness(train, columns)
        for column in columns:
            if column.target and column.classes:
                faults += _classes(files, splits, column.role)
    hint = "Mend the files, or name other columns or splits in the recipe."
    raise_faults(DataError, "These rows can't be trained on:", faults, hint=hint)


def _sizes(splits: Mapping[str, Slice]) -> Iterator[str]:
    for name, part in splits.items():
        least = LEAST_ROWS if name == "train" else 1
        if len(part.scan) < least:
            total = len(part.table.rows)
            yield (
                f"the {name} split has {len(part.scan)} of the {total} rows of {part.file}, and needs {least}: "
                "give more rows, another share, or null for no such split"
            )


def _sameness(train: Slice, columns: Sequence[Column]) -> Iterator[str]:
    scan, path, names = train.scan, train.file, train.table.columns
    if (scan.keys == scan.keys[0]).all():
        shown = ", ".join(f"'{names[role]}'" for role in inputs(columns) if role in names)
        yield f"{path}: all {len(scan):,} training rows have the same text in {shown}"
    if scan.numbers is not None and np.ptp(scan.numbers) == 0:
        role = next(column.role for column in columns if column.target and column.storage == "number")
        yield f"{path}: column '{names[role]}' is {scan.numbers[0]:g} in all {len(scan):,} training rows"


def _classes(files: Mapping[str, Slice], splits: Mapping[str, Slice], role: str) -> Iterator[str]:
    for part in files.values():
        yield from _mixed(part, role)
    train = files["train"]
    place = f"{train.file}: column '{train.table.columns[role]}'"
    known = train.scan.classes()
    if len(known.counts) < 2:
        what = f"the single class '{next(iter(known.counts))}'" if known.counts else "no class"
        yield f"{place} has {what}: at least two are needed"
    for name, count in known.counts.items():
        if count == 1:
            yield f"{place}: class '{name}' has one example (line {known.lines[name]}): at least two are needed"
    for split in splits:
        if split != "train":
            yield from _unknown(splits[split], list(splits["train"].scan.classes().counts), split)


def _mixed(part: Slice, role: str) -> Iterator[str]:
    """Classes that are sometimes numbers and sometimes names."""
    classes = part.scan.classes()
    sorts = {
        "numbers": [name for name in classes.counts if NUMBER.fullmatch(name)],
        "names": [name for name in classes.counts if not NUMBER.fullmatch(name)],
    }
    if not all(sorts.values()):
        return
    totals = {sort: sum(classes.counts[name] for name in names) for sort, names in sorts.items()}
    rare, usual = sorted(totals, key=lambda sort: totals[sort])
    first = min(sorts[rare], key=lambda name: classes.first[name])
    yield (
        f"{part.file}: column '{part.table.columns[role]}' has {usual} in {totals[usual]:,} rows "
        f"(such as '{sorts[usual][0]}') but {rare} in {totals[rare]:,}, "
        f"the first in line {classes.lines[first]} ('{first}')"
    )


def _unknown(part: Slice, known: Sequence[str], split: str) -> Iterator[str]:
    classes = part.scan.classes()
    for name in classes.counts:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            guess = f"; did you mean '{close[0]}'?" if close else ""
            rows = "1 row" if classes.counts[name] == 1 else f"{classes.counts[name]:,} rows"
            yield (
                f"{part.table.path}: class '{name}' ({rows} of {split}, the first in line {classes.lines[name]}) "
                f"does not occur in training{guess}"
            )
