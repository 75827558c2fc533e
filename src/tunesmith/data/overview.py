"""What the report shows of the data: splits, classes or scores, repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tunesmith.core.panel import Bars, Cell, Panel, Table
from tunesmith.data.duplicates import Overlap, Repeats
from tunesmith.data.scan import Place
from tunesmith.data.slices import Slice

DRAWN_CLASSES = 60
BINS = 20
SHOWN_TEXT = 200


@dataclass(frozen=True)
class NearRow:
    """A row of `split` and the training row that it nearly repeats: lines and texts."""

    split: str
    line: Place
    text: str
    train_line: Place
    train_text: str


def panels(splits: Mapping[str, Slice]) -> list[Panel]:
    """The table of splits, and what is to be predicted in each."""
    rows: list[list[Cell]] = [[name, len(part.scan), part.file] for name, part in splits.items()]
    found: list[Panel] = [Table("Splits", ["split", "rows", "file"], rows)]
    if splits["train"].scan.names:
        found.append(_classes(splits))
    if splits["train"].scan.numbers is not None:
        found.append(_scores(splits))
    return found


def repetitions(repeats: Repeats, overlaps: Sequence[Overlap], *, leaks: str) -> Table:
    """The table of texts that stand more than once."""
    rows: list[list[Cell]] = [
        ["training rows whose text stood before", repeats.rows, "kept"],
        ["training texts with different answers", repeats.contradictions, "kept"],
    ]
    done = {"drop": "dropped", "keep": "kept", "refuse": "refused"}[leaks]
    rows += [[f"{one.split} rows that stand in {one.other}", one.rows, done] for one in overlaps]
    pairs = ", ".join(f"{first} and {second}" for first, second in repeats.lines)
    return Table(
        "Repeated texts",
        ["what", "count", "what was done"],
        rows,
        f"Different answers: lines {pairs}." if pairs else "",
    )


def near_table(counts: Mapping[str, int], examples: Sequence[NearRow], *, note: str) -> Table:
    """Counts of near repetitions, and some of them."""
    rows: list[list[Cell]] = [
        [one.split, one.line, _short(one.text), one.train_line, _short(one.train_text)] for one in examples
    ]
    total = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
    columns = ["split", "line", "text", "training line", "training text"]
    return Table("Rows that nearly repeat a training row", columns, rows, f"Rows: {total}. {note}".strip())


def _classes(splits: Mapping[str, Slice]) -> Bars:
    counts = {name: part.scan.classes().counts for name, part in splits.items()}
    names = sorted(counts["train"], key=lambda name: (-counts["train"][name], name))
    drawn = names[:DRAWN_CLASSES]
    series = {split: [found.get(name, 0) for name in drawn] for split, found in counts.items()}
    note = f"The {len(drawn)} most frequent of {len(names)} classes." if len(names) > len(drawn) else ""
    return Bars("Rows of each class", drawn, series, x="class", y="rows", note=note)


def _scores(splits: Mapping[str, Slice]) -> Bars:
    numbers = {name: part.scan.numbers for name, part in splits.items() if part.scan.numbers is not None}
    edges = np.histogram_bin_edges(np.concatenate(list(numbers.values())), bins=BINS)
    series = {name: np.histogram(values, edges)[0].tolist() for name, values in numbers.items()}
    labels = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return Bars("Distribution of the target", labels, series, x="target", y="rows")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 1] + "…"
