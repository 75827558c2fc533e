"""What the model sees of the training split: examples token by token, their lengths, what is cut off them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.column import Row
from tunesmith.core.panel import Bars, Cell, Marked, Panel, Table
from tunesmith.core.rows import line_of, take
from tunesmith.prepare import Prepared
from tunesmith.report.wording import shorten

SAMPLED = 2000
SHOWN = 3
LENGTHS = 15
"""Most bars of the chart of lengths."""
CAPTION = 200
"""Most characters of what is to be learned of a shown row."""


@dataclass(frozen=True)
class Sample:
    """At most SAMPLED rows as they are trained on, spread evenly over the split, and their examples."""

    prepared: Prepared
    rows: Sequence[Row]
    examples: Sequence[dict[str, Any]]

    @property
    def sizes(self) -> np.ndarray:
        """Positions of each example."""
        return np.array([self.prepared.recipe.task.size(example) for example in self.examples])

    @property
    def cut(self) -> int:
        """How many examples lose text to the limit."""
        return sum(bool(example.get("cut")) for example in self.examples)

    def panels(self) -> list[Panel]:
        """The first examples with the positions that carry loss, the first that are cut, and all lengths."""
        images = self.prepared.recipe.task.reads == "images"  # which are all alike
        found: list[Panel] = [self._seen()] if images else [self._seen(), self._lengths()]
        return [*found, self._cuts()] if self.cut else found

    def _seen(self) -> Marked:
        task, tokenizer = self.prepared.recipe.task, self.prepared.backbone.tokenizer
        targets = [column.role for column in task.columns() if column.target]
        captions = [
            ", ".join([_place(row), *(f"{role} = {_value(row[role])}" for role in targets if role in row)])
            for row in self.rows[:SHOWN]
        ]
        shown = [task.seen(example, tokenizer) for example in self.examples[:SHOWN]]
        marked = any(any(one.loss) for sequences in shown for one in sequences)
        loss = "Marked: positions that carry loss." if marked else "The loss is that of the whole example."
        told = f"Decoded from the token ids, special tokens too. {loss}" if task.reads == "text" else ""
        return Marked("What the model sees", captions, shown, told)

    def _cuts(self) -> Table:
        task, tokenizer = self.prepared.recipe.task, self.prepared.backbone.tokenizer
        cut = [(row, one) for row, one in zip(self.rows, self.examples, strict=True) if one.get("cut")]
        rows: list[list[Cell]] = [
            [_place(row), " ".join(task.seen(one, tokenizer)[-1].tokens)[-80:]] for row, one in cut[:SHOWN]
        ]
        share = f"{len(cut)} of {len(self.examples)} sampled examples are cut."
        return Table("What truncation cuts", ["row", "the last that is seen"], rows, share)

    def _lengths(self) -> Bars:
        sizes = self.sizes
        width = int(np.ptp(sizes)) // LENGTHS + 1
        edges = np.arange(sizes.min(), sizes.max() + width + 1, width)
        counts, _ = np.histogram(sizes, bins=edges)
        labels = [str(low) if width == 1 else f"{low} to {low + width - 1}" for low in edges[:-1]]
        note = f"{len(sizes):,} sampled training examples; {self.cut:,} of them are longer than the limit and are cut."
        return Bars("Tokens of an example", labels, {"examples": counts.tolist()}, note=note)


def sample(prepared: Prepared) -> Sample:
    """A sample of the training split."""
    rows, backbone = prepared.batches.rows, prepared.backbone
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLED)).astype(int))
    found = take(rows, [int(place) for place in places])
    return Sample(prepared, found, prepared.recipe.task.encode(found, backbone.tokenizer, backbone.limit))


def _place(row: Row) -> str:
    line = line_of(row)
    return f"line {line}" if line else ""


def _value(value: Any) -> str:
    """What is to be learned of a row, as a caption has room for it: of spans their texts and places."""
    if isinstance(value, list):
        told = ", ".join(map(_value, value)) or "none"
    elif isinstance(value, Mapping):
        told = f"'{value['text']}'" + ("" if value["start"] is None else f" at {value['start']}")
    else:
        told = f"{value:g}" if isinstance(value, float) else str(value)
    return shorten(told, CAPTION)
