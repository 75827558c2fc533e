"""What a report shows: tables and charts as plain data, so that the page needs to know no task and no suite.

Every panel turns into a JSON object with the key `panel` naming its kind; `evaluation.json` holds them, the page
draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

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
    """A matrix of numbers: `values[row][column]`; None where there is none."""

    kind: ClassVar[str] = "heatmap"
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
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


@dataclass(frozen=True)
class Tokens:
    """One sequence as the model sees it: its tokens, and which of them carry loss. `name` says what it is for."""

    name: str
    tokens: Sequence[str]
    loss: Sequence[bool]


@dataclass(frozen=True)
class Marked:
    """Examples as the model sees them: for each a caption and its sequences."""

    kind: ClassVar[str] = "marked"
    title: str
    captions: Sequence[str]
    examples: Sequence[Sequence[Tokens]]
    note: str = ""

    def __post_init__(self) -> None:
        # Read back from JSON, sequences are mappings.
        read = [[Tokens(**one) if isinstance(one, Mapping) else one for one in example] for example in self.examples]
        object.__setattr__(self, "examples", read)


Panel = Table | Bars | Lines | Heatmap | Points | Marked


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


Aspect = Literal["learned", "generalises", "kept", "robust", "calibrated"]
"""What a run is judged by, in the order in which a reader is told."""
Grade = Literal["good", "mixed", "bad", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What a measurement comes to, in plain words, and the figure that decided it.

    word: the verdict ("Overconfident"). said: a sentence that explains it. figure: what `value` is, with the interval
    from `low` to `high` (None: not estimated). rule: how the grade follows from them, with its limits. support: whether
    it only stands beside another verdict on the same aspect, which decides.
    """

    aspect: Aspect
    grade: Grade
    word: str
    said: str
    figure: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    rule: str = ""
    support: bool = False


@dataclass(frozen=True)
class Result:
    """What one suite found. failed: why it found nothing; empty where it did. asks: the question that it answers.
    defines: what its figures are, by their names.
    """

    figures: list[Figure] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    failed: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    asks: str = ""
    defines: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "figures": [asdict(figure) for figure in self.figures],
            "panels": [{"panel": panel.kind, **asdict(panel)} for panel in self.panels],
            **({"failed": self.failed} if self.failed else {}),
            **({"verdicts": [asdict(verdict) for verdict in self.verdicts]} if self.verdicts else {}),
            **({"asks": self.asks} if self.asks else {}),
            **({"defines": self.defines} if self.defines else {}),
        }
