"""How gradients flowed to each place of the model while it trained, as the run's record tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from tunesmith.core.panel import Cell, Heatmap, Panel, Table
from tunesmith.evaluate.unmeasured import unmeasured
from tunesmith.train.log import lines

TITLE = "Gradient flow by place"
COLUMNS = 60
"""How many steps the picture shows, at most."""
Norms = Mapping[str, float | None]


def panels(record: Path) -> list[Panel]:
    """The picture and its numbers, from the steps that a run's `metrics.jsonl` tells; where it tells none, why."""
    told = {
        line["step"]: (line["gradients"], line["gradient_norm"])
        for line in (lines(record) if record.is_file() else [])
        if line["event"] == "step" and line.get("gradients") and line.get("gradient_norm")
    }
    if not told:
        return [unmeasured(TITLE, "the run's record tells no gradients")]
    found = {step: told[step] for step in sorted(told)}
    places = list(dict.fromkeys(place for norms, _ in found.values() for place in norms))
    return [_picture(found, places), _numbers([norms for norms, _ in found.values()], places)]


def _picture(found: Mapping[int, tuple[Norms, float]], places: Sequence[str]) -> Heatmap:
    every = -(-len(found) // COLUMNS)
    shown = dict(list(found.items())[::every])
    open_ = [place for place in places if any(norms.get(place) is not None for norms, _ in found.values())]
    values = [[_share(norms.get(place), whole) for norms, whole in shown.values()] for place in open_]
    frozen = [place for place in places if place not in open_]
    note = (
        "The norm of a place's gradient in that of all of them, before any clipping: 1 is all of it. The squares add "
        f"up to 1. {_frozen(frozen)} A gap is a time in which the place was frozen."
    )
    return Heatmap(TITLE, open_, [str(step) for step in shown], values, "step", "place", note)


def _numbers(found: Sequence[Norms], places: Sequence[str]) -> Table:
    rows: list[list[Cell]] = []
    for place in places:
        norms = [value for one in found if (value := one.get(place)) is not None]
        trained = "always" if len(norms) == len(found) else f"{len(norms)} of {len(found)} times" if norms else "frozen"
        rows.append([place, trained, *([norms[0], median(norms), norms[-1]] if norms else [None] * 3)])
    note = f"Norms of the gradients of {len(found):,} logged steps; `trained` says in how many there was one."
    return Table("Gradients by place", ["place", "trained", "first", "median", "last"], rows, note)


def _share(norm: float | None, whole: float) -> float | None:
    return None if norm is None else norm / whole


def _frozen(places: Sequence[str]) -> str:
    return f"Frozen throughout: {', '.join(places)}." if places else "No place was frozen throughout."
