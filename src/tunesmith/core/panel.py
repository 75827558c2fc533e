"""What a report shows: tables and charts as plain data, so that the page needs to know no task and no suite.

Every panel turns into a JSON object with the key `panel` naming its kind; `evaluation.json` holds them, the page
draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of cells. `note` stands under the table."""

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """One bar a label and series."""

    kind: ClassVar[str] = "bars"
    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    x: str = ""
    y: str = ""
    note: str = ""


@dataclass(frozen=True)
class Lines:
    """One line a series: name -> (xs, ys)."""

    kind: ClassVar[str] = "lines"
    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    x: str = ""
    y: str = ""
    note: str = ""


@dataclass(frozen=True)
class Heatmap:
    """A matrix of numbers: `values[row][column]`."""

    kind: ClassVar[str] = "heatmap"
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    x: str = ""
    y: str = ""
    note: str = ""


@dataclass(frozen=True)
class Points:
    """A cloud of points; `diagonal` draws the line x = y."""

    kind: ClassVar[str] = "points"
    title: str
    xs: Sequence[float]
    ys: Sequence[float]
    x: str = ""
    y: str = ""
    note: str = ""
    diagonal: bool = False


Panel = Table | Bars | Lines | Heatmap | Points


@dataclass(frozen=True)
class Figure:
    """One measured number: `name` of the metric, on `split`, for `subject` (the model or a baseline).

    `low` and `high` bound the interval that holds the value with probability `confidence` (None: not estimated).
    """

    name: str
    value: float
    split: str = "test"
    subject: str = "model"
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95


@dataclass(frozen=True)
class Result:
    """What one suite found."""

    figures: list[Figure] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "figures": [asdict(figure) for figure in self.figures],
            "panels": [{"panel": panel.kind, **asdict(panel)} for panel in self.panels],
        }
