"""Panels as plotly figures: plain dictionaries with `data` and `layout`, drawn by `page.js`.

Colours are names of the page's palette ("@accent", "@series"); the script puts in those of the light or the dark
scheme. Plotly reads texts as a small HTML of its own, so every text goes through `label` or `labels`.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tunesmith.core.panel import Bars, Figure, Heatmap, Lines, Points
from tunesmith.report.wording import cell, number, shorten, visible, words

Plot = dict[str, Any]

LABEL = 24
NUMBERS_IN_CELLS = 15
MARKED_POINTS = 40
LINE_POINTS = 1500
CLOUD_POINTS = 4000


def plot(panel: Bars | Lines | Heatmap | Points) -> Plot:
    """The figure of one panel."""
    match panel:
        case Bars():
            return bars(panel)
        case Lines():
            return lines(panel)
        case Heatmap():
            return heatmap(panel)
        case Points():
            return points(panel)


def bars(panel: Bars) -> Plot:
    """One bar a label and series; lying where the names would not fit side by side."""
    names = labels(panel.labels)
    lying = sum(map(len, names)) > 60 and any(character.isalpha() for name in names for character in name)
    along, across = ("y", "x") if lying else ("x", "y")
    traces = [
        {"type": "bar", "name": label(name), along: names, across: list(values), "orientation": "h" if lying else "v"}
        for name, values in panel.series.items()
    ]
    thick = 24 if len(names) <= 30 else 16
    height = 80 + len(names) * max(thick, 11 * len(traces)) if lying else 300
    layout = _layout(panel.y if lying else panel.x, panel.x if lying else panel.y, height=height)
    layout |= {"barmode": "group", "bargap": 0.25, "showlegend": len(traces) > 1}
    layout[f"{along}axis"] |= {"type": "category", "showgrid": False}
    if lying:
        layout["yaxis"] |= {"autorange": "reversed", "dtick": 1}
        # The foot of a tall chart is out of sight: its scale stands above.
        layout["xaxis"] |= {"side": "top" if len(names) > 30 else "bottom"}
    elif max(map(len, names), default=0) <= 4:
        layout["xaxis"] |= {"tickangle": 0}
    return {"data": traces, "layout": layout}


def lines(panel: Lines) -> Plot:
    """One line a series; few points are marked, many are thinned out to means of neighbours."""
    traces = []
    for name, (xs, ys) in panel.series.items():
        few = len(xs) <= MARKED_POINTS
        mode = "lines+markers" if few else "lines"
        line = {"x": thinned(xs), "y": thinned(ys), "line": {"width": 2 if few else 1.5}}
        traces.append({"type": "scatter", "mode": mode, "name": label(name), **line})
    layout = _layout(panel.x, panel.y, height=300) | {"showlegend": len(traces) > 1, "hovermode": "x unified"}
    return {"data": traces, "layout": layout}


def heatmap(panel: Heatmap) -> Plot:
    """A matrix as colours, with its numbers where they are readable; around zero in two colours."""
    numbered = max(len(panel.rows), len(panel.columns)) <= NUMBERS_IN_CELLS
    signed = any(value < 0 for row in panel.values for value in row if value is not None)
    trace: dict[str, Any] = {"type": "heatmap", "x": labels(panel.columns), "y": labels(panel.rows)}
    trace |= {"z": [list(row) for row in panel.values], "colorscale": "@signed" if signed else "@amount"}
    trace |= {"hovertemplate": "%{y} × %{x}: <b>%{z}</b><extra></extra>", "colorbar": _colorbar()}
    if signed:
        trace |= {"zmid": 0}
    if numbered:
        # Paler colours, on which the numbers stay readable.
        trace |= {"colorscale": trace["colorscale"] + "-pale", "textfont": {"color": "@ink"}}
        trace |= {"text": [[cell(value) for value in row] for row in panel.values], "texttemplate": "%{text}"}
        trace |= {"xgap": 2, "ygap": 2, "showscale": False}
    height = 150 + (34 * len(panel.rows) if numbered else min(600, 14 * len(panel.rows)))
    layout = _layout(panel.x, panel.y, height=max(220, height))
    layout["xaxis"] |= {"type": "category", "showgrid": False}
    layout["yaxis"] |= {"type": "category", "showgrid": False, "autorange": "reversed"}
    return {"data": [trace], "layout": layout}


def points(panel: Points) -> Plot:
    """A cloud of points, evenly thinned out where there are very many."""
    stride = -(-len(panel.xs) // CLOUD_POINTS) or 1
    xs, ys = list(panel.xs[::stride]), list(panel.ys[::stride])
    marker = {"color": "@accent", "opacity": 0.55, "size": 6}
    traces: list[dict[str, Any]] = [{"type": "scatter", "mode": "markers", "x": xs, "y": ys, "marker": marker}]
    finite = [value for value in (*xs, *ys) if value is not None]
    if panel.diagonal and finite:
        ends = [min(finite), max(finite)]
        line = {"color": "@muted", "dash": "dot", "width": 1.5}
        traces.append({"type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": line, "hoverinfo": "skip"})
    return {"data": traces, "layout": _layout(panel.x, panel.y, height=340) | {"showlegend": False}}


def intervals(figures: Sequence[Figure], metric: str) -> Plot:
    """A dot with whiskers for each figure, the first one in the accent colour."""
    traces = []
    for position, figure in enumerate(figures):
        low, high = figure.low, figure.high
        whiskers: dict[str, Any] = {"type": "data", "symmetric": False, "thickness": 2, "width": 7}
        whiskers |= {"array": [(high if high is not None else figure.value) - figure.value]}
        whiskers |= {"arrayminus": [figure.value - (low if low is not None else figure.value)]}
        color = "@muted" if position else "@accent"
        name = label(words(figure.subject), 32)
        trace: dict[str, Any] = {"type": "scatter", "mode": "markers", "x": [figure.value], "y": [name]}
        trace |= {"error_x": whiskers | {"color": color}, "marker": {"size": 10, "color": color}}
        trace |= {"hovertemplate": f"%{{y}}: {number(figure.value)}<extra></extra>"}
        traces.append(trace)
    layout = _layout(metric, "", height=90 + 44 * len(figures)) | {"showlegend": False}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    return {"data": traces, "layout": layout}


def label(text: object, length: int = LABEL) -> str:
    """A text as plotly shall show it: on one line, not too long, with no tags of its own."""
    return html.escape(shorten(visible(" ".join(str(text).split())) or "(empty)", length), quote=False)


def labels(texts: Sequence[object]) -> list[str]:
    """Labels of a category axis, where equal names would fall on one place: a repeated one is numbered."""
    seen: Counter[str] = Counter()
    found = []
    for name in map(label, texts):
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def thinned(values: Sequence[float | None]) -> list[float | None]:
    """At most LINE_POINTS values, each the mean of as many neighbours."""
    width = -(-len(values) // LINE_POINTS) or 1
    if width == 1:
        return list(values)
    groups = [
        [value for value in values[start : start + width] if value is not None]
        for start in range(0, len(values), width)
    ]
    return [sum(group) / len(group) if group else None for group in groups]


def _layout(x: str, y: str, *, height: int) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "height": height,
        "margin": {"l": 10, "r": 14, "t": 10, "b": 10},
        "xaxis": _axis(x),
        "yaxis": _axis(y),
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "colorway": "@series",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "@ink"},
        "hoverlabel": {"bgcolor": "@surface", "bordercolor": "@line", "font": {"color": "@ink"}, "namelength": -1},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        # A finger that slides over a chart scrolls the page.
        "dragmode": False,
    }


def _axis(title: str) -> dict[str, Any]:
    axis: dict[str, Any] = {"automargin": True, "fixedrange": True, "exponentformat": "power", "ticks": ""}
    axis |= {"gridcolor": "@line", "zerolinecolor": "@line", "linecolor": "@line", "tickfont": {"color": "@muted"}}
    if title:
        axis["title"] = {"text": label(title, 2 * LABEL), "font": {"color": "@muted"}, "standoff": 8}
    return axis


def _colorbar() -> dict[str, Any]:
    return {"thickness": 10, "outlinewidth": 0, "tickfont": {"color": "@muted"}}
