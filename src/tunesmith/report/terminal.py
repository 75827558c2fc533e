"""The last lines of a run on the terminal: what came out, what it had to beat, where everything lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunesmith.core.panel import Figure, Verdict
from tunesmith.report.judged import SIGNS
from tunesmith.report.lead import Lead, lead
from tunesmith.report.page import NAME
from tunesmith.report.record import Record, read
from tunesmith.report.wording import bounds, interval, number, printable, words

STYLES = {"good": "green", "mixed": "yellow", "bad": "red"}


def summary(run_folder: Path, sequence: Path | None = None) -> RenderableType:
    """The main metric with its interval, the baselines, and the paths of page and model. sequence: the folder of the
    stages of which this run is the last.
    """
    record = read(run_folder)
    found = lead(record)
    parts: list[RenderableType] = []
    if record.evaluation:
        parts.append(_text(record.evaluation.title, "bold"))
    parts.append(_scores(found) if found else _text("The main metric was not measured."))
    parts.append(verdicts(record.verdicts()))
    return Group(*parts, _places(record, sequence))


def verdicts(found: Sequence[Verdict]) -> Table:
    """A line each: its sign and word, and the figure that decided."""
    table = Table.grid(padding=(0, 1))
    for one in found:
        value = "" if one.value is None else number(one.value)
        span = bounds(one.low, one.high)
        told = f"{one.figure} {value}{f' ({span})' if span else ''}".rstrip()
        style = STYLES.get(one.grade, "")
        table.add_row(_text(SIGNS.get(one.grade, "?"), style), _text(one.word, style), _text(told, "dim"))
    return table


def _scores(found: Lead) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row(_text(f"{words(found.main.name)} on {found.main.split}", "bold"), *_figure(found.main, "bold green"))
    for figure in found.baselines:
        table.add_row(_text(words(figure.subject)), *_figure(figure, ""))
    return table


def _figure(figure: Figure, style: str) -> tuple[Text, Text]:
    return _text(number(figure.value), style), _text(interval(figure))


def _places(record: Record, sequence: Path | None) -> Table:
    table = Table.grid(padding=(0, 2))
    model = record.evaluation.artifact.get("folder") if record.evaluation else None
    found = [("report", record.folder / NAME), ("model", record.folder / str(model) if model else None)]
    for name, path in [*found, ("all stages", sequence / NAME if sequence else None)]:
        if path and path.exists():
            table.add_row(_text(name), Text(printable(str(path)), overflow="fold"))
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
