"""Medians with their spread, and pages of tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats as distributions

from pairs.turns import Found


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known))

    def told(self, form: str = ",.0f", unit: str = "") -> str:
        """`1.62x (1.58 to 1.66)`."""
        middle, low, high = (f"{value:{form}}" for value in (self.median, self.low, self.high))
        return f"{middle}{unit} ({low} to {high})"


def spread(runs: Sequence[Found], key: str, scale: float = 1.0) -> Spread:
    """Of one measure over the runs of a side."""
    return Spread.of(run[key] * scale for run in runs)


def ratio(over: Sequence[Found], under: Sequence[Found], key: str) -> Spread:
    """Of one measure, a side's over the other's, turn by turn; turns that only one side finished are left out."""
    return Spread.of(a[key] / b[key] for a, b in zip(over, under, strict=False))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def write(path: Path | None, title: str, lines: Sequence[str]) -> None:
    """A page; without a path nothing is written."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([f"# {title}", "", *lines]) + "\n", encoding="utf-8")


def interval(values: Sequence[float], scale: float = 1.0, form: str = ".1f") -> str:
    """The mean, and half of its 95 % interval where there are several values."""
    mean = scale * statistics.mean(values)
    if len(values) < 2:
        return f"{mean:{form}}"
    error = scale * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:{form}} ± {distributions.t.ppf(0.975, len(values) - 1) * error:{form.lstrip('+')}}"
