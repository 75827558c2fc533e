"""Panels, figures and explanations as text for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from tunesmith.core.panel import Bars, Cell, Heatmap, Lines, Marked, Panel, Table, Verdict
from tunesmith.report.terminal import verdicts
from tunesmith.report.wording import number, printable

SHOWN_ROWS = 40
ENDLESS = 2000
SHOWN_POINTS, WIDTH = 24, 30
"""How many points of a line are shown, and of how many signs the longest bar is."""


def show(parts: Sequence[RenderableType], *, whole: bool = False) -> None:
    """Print to standard output; lines are kept whole where that is no terminal and they are to be."""
    width = ENDLESS if whole and not sys.stdout.isatty() else None
    Console(soft_wrap=False, width=width).print(Group(*parts))


def panels(found: Sequence[Panel]) -> list[RenderableType]:
    """Tables, bar charts and lines as tables, examples with their marks; other charts need the page."""
    shown: list[RenderableType] = []
    for panel in found:
        if isinstance(panel, Marked):
            shown += _marked(panel)
        elif (table := _table(panel)) is not None:
            shown.append(_grid(table))
    return shown


def _marked(panel: Marked) -> list[RenderableType]:
    """Every token; those that carry loss in brackets and reversed, so that they show without colours too."""
    parts: list[RenderableType] = [Text(printable(panel.title), style="bold")]
    for caption, sequences in zip(panel.captions, panel.examples, strict=True):
        parts.append(Text(printable(caption), style="bold"))
        for one in sequences:
            line = Text(f"{one.name}: ")
            for token, loss in zip(one.tokens, one.loss, strict=True):
                line.append(f"[{printable(token)}]" if loss else printable(token), style="reverse" if loss else "")
                line.append(" ")
            parts.append(line)
    return [*parts, Text(printable(panel.note), style="italic"), Text("")]


def facts(found: Mapping[str, Any]) -> RenderableType:
    """Names and values."""
    grid = Grid.grid(padding=(0, 2))
    for name, value in found.items():
        grid.add_row(name.replace("_", " "), _cell(value))
    return grid


def figures(measured: Mapping[str, Any]) -> list[RenderableType]:
    """Every suite's figures, one row a split and subject, one column a metric; and what they come to."""
    parts: list[RenderableType] = [Text(printable(measured["title"]), style="bold")]
    for suite, result in measured["suites"].items():
        names = list(dict.fromkeys(figure["name"] for figure in result["figures"]))
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for figure in result["figures"]:
            span = "" if figure["low"] is None else f" ({number(figure['low'])} to {number(figure['high'])})"
            row = rows.setdefault((figure["split"], figure["subject"]), {})
            row[figure["name"]] = f"{number(figure['value'])}{span}"
        cells = [[*key, *[row.get(name, "") for name in names]] for key, row in rows.items()]
        parts.append(_grid(Table(f"suite {suite}", ["split", "subject", *names], cells)))
        parts.append(verdicts([Verdict(**one) for one in result.get("verdicts", [])]))
    return parts


def explanation(found: Mapping[str, Any]) -> list[RenderableType]:
    """A title, a text, settings and steps."""
    parts: list[RenderableType] = [Text(found["title"], style="bold"), Text(found["text"]), Text("")]
    settings = [[s["name"], s["type"], s["default"], s["sentence"]] for s in found["settings"]]
    if settings:
        parts.append(_grid(Table("Settings", ["setting", "type", "default", "what it does"], settings)))
    if found["steps"]:
        parts.append(_grid(Table("The loop", ["hook", "when", "who acts"], found["steps"])))
    return parts


def _table(panel: Panel) -> Table | None:
    if isinstance(panel, Table):
        return panel
    rows: list[list[Cell]]
    if isinstance(panel, Bars):
        rows = [[label, *[values[i] for values in panel.series.values()]] for i, label in enumerate(panel.labels)]
        return Table(panel.title, [panel.x or "", *panel.series], rows, panel.note)
    if isinstance(panel, Heatmap):
        rows = [[name, *values] for name, values in zip(panel.rows, panel.values, strict=True)]
        return Table(panel.title, [panel.y, *panel.columns], rows, panel.note)
    if isinstance(panel, Lines):
        return _line(panel)
    return None


def _line(panel: Lines) -> Table:
    """The last of the lines, a bar a point: some of its points, evenly apart."""
    name, (xs, ys) = list(panel.series.items())[-1]
    step = max(1, -(-len(xs) // SHOWN_POINTS))
    places = range(0, len(xs), step)
    low, high = min(ys, default=0.0), max(ys, default=0.0)
    rows: list[list[Cell]] = []
    for place in places:
        share = (ys[place] - low) / (high - low) if high > low else 0.0
        rows.append([xs[place], ys[place], "█" * round(1 + share * (WIDTH - 1))])
    return Table(panel.title, [panel.x, name, ""], rows, panel.note)


def lines(table: Table) -> RenderableType:
    """A table with all of its rows and without rules, a line a row where there is room."""
    grid = Grid(box=None, title=Text(printable(table.title)), title_justify="left", title_style="bold", pad_edge=False)
    for column in table.columns:
        grid.add_column(Text(printable(column)), overflow="fold")
    for row in table.rows:
        grid.add_row(*[Text(_cell(cell)) for cell in row])
    return grid


def _grid(table: Table) -> RenderableType:
    grid = Grid(
        title=Text(printable(table.title)), title_justify="left", title_style="bold", caption=printable(table.note)
    )
    for column in table.columns:
        grid.add_column(Text(printable(column)), overflow="fold")
    for row in table.rows[:SHOWN_ROWS]:
        grid.add_row(*[Text(_cell(cell)) for cell in row])
    if len(table.rows) > SHOWN_ROWS:
        grid.add_row(f"… {len(table.rows) - SHOWN_ROWS} more")
    return grid


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else printable(str(value))
