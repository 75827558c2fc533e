"""What quality costs: which runs no other one beats in everything, and the picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.core.panel import Points
from tunesmith.report.plots import Plot, labels, points

WIDE = 20
"""A cost of which the largest is so many times the smallest stands on a logarithmic axis."""


def undominated(found: Sequence[Sequence[float]]) -> list[bool]:
    """Of each point whether no other is at least as good in everything and better in something; more is better."""
    return [not any(_beats(other, one) for other in found) for one in found]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def front(
    names: Sequence[str],
    costs: Sequence[float],
    qualities: Sequence[float],
    best: Sequence[bool],
    axes: tuple[str, str],
) -> Plot:
    """Quality against a cost: each run a dot with its name, those that are `best` joined by a line. axes: what the two
    are called.
    """
    layout = points(Points("", [], [], *axes))["layout"] | {"showlegend": False, "height": 360}
    known = [cost for cost in costs if cost > 0]
    if len(known) == len(costs) and max(known) > WIDE * min(known):
        layout["xaxis"] |= {"type": "log", "exponentformat": "SI"}
    short = labels(names)
    traces: list[dict[str, Any]] = []
    for kept, color in ((True, "@accent"), (False, "@muted")):
        places = sorted((place for place in range(len(names)) if best[place] == kept), key=lambda place: costs[place])
        if not places:
            continue
        xs, ys = [costs[place] for place in places], [qualities[place] for place in places]
        if kept:
            line = {"color": color, "dash": "dot", "width": 1.5}
            traces.append({"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": line, "hoverinfo": "skip"})
        told = {"text": [short[place] for place in places], "textposition": "top center", "cliponaxis": False}
        marker = {"color": color, "size": 10, "symbol": "circle" if kept else "circle-open"}
        hover = "%{text}: %{y:.4g} at %{x:.4g}<extra></extra>"
        dots = {"type": "scatter", "mode": "markers+text", "x": xs, "y": ys, "marker": marker, "hovertemplate": hover}
        traces.append(dots | told)
    return {"data": traces, "layout": layout}
