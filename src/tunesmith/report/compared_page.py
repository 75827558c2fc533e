"""The page of a comparison: which run is better, what differs, every figure, and what quality costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.core.panel import Figure
from tunesmith.report import direction, page
from tunesmith.report.blocks import chart, grid, table
from tunesmith.report.compared import COSTS, KEPT, Comparison, cost
from tunesmith.report.contenders import Key, differing
from tunesmith.report.fronts import front, undominated
from tunesmith.report.lead import MODEL
from tunesmith.report.markup import Markup, join, tag
from tunesmith.report.outcome import probability
from tunesmith.report.plots import intervals
from tunesmith.report.wording import NOTHING, interval, listing, number, percent, title, words

AXES = {"trained_parameters": "parameters trained", "seconds": "seconds of training", "peak_memory_bytes": "bytes"}
BEST = "★"


def write(path: Path, found: Comparison) -> None:
    """Write the page."""
    page.write_shown(path, found.title, body(found))


def body(found: Comparison) -> Markup:
    """All of the page but its frame."""
    sections = {
        "Which is better": _judged(found),
        "What differs": _differences(found),
        "Figures": _figures(found),
        "What it costs": _costs(found),
    }
    head = tag(
        "header",
        tag("p", "tunesmith report", class_="eyebrow"),
        tag("h1", found.title, dir="auto"),
        tag("p", found.lead, class_="lead", dir="auto"),
    )
    return tag("main", head, *(tag("section", tag("h2", name), shown) for name, shown in sections.items()))


def _judged(found: Comparison) -> Markup:
    better = "higher" if found.higher_is_better else "lower"
    shown = [replace(found.mains[place], subject=f"{found.names[place]}") for place in found.ranked]
    caption = f"{title(found.metric)} on {found.split} ({better} is better)"
    whiskers = f"Whiskers: {percent(shown[0].confidence)} intervals." if any(map(interval, shown)) else ""
    plot = chart(caption, intervals(shown, words(found.metric)), whiskers)
    told = tag("ul", join(tag("li", one, dir="auto") for one in [*found.sentences, *found.notes]), class_="notes card")
    return join([grid([plot, told]), *([_pairs(found)] if found.duels else [])])


def _pairs(found: Comparison) -> Markup:
    names, unit = found.names, found.unit
    rows = [
        [
            f"{names[duel.first]} – {names[duel.second]}", unit.bare(duel.difference),
            f"{unit.bare(duel.low)} to {unit.bare(duel.high)}", duel.test, probability(duel.p),
            probability(duel.adjusted), NOTHING if duel.smallest is None else unit.bare(duel.smallest),
        ]
        for duel in found.duels
    ]  # fmt: skip
    columns = ["pair", "difference", "interval", "test", "p", "p after Holm", "smallest that shows"]
    points = "In points, hundredths of the metric. " if unit.points else ""
    note = f"{points}Above 0 the first is better. Holm's correction is over all pairs; draws have fixed seeds."
    return table("Every pair", columns, rows, note)


def _differences(found: Comparison) -> Markup:
    rows = differing(found.contenders)
    if not rows:
        return tag("p", "The recipes are the same.", class_="absent")
    shown = [[tag("code", key), *(_setting(value) for value in values)] for key, values in rows.items()]
    return table("Keys of the recipes that differ", ["key", *found.names], shown)


def _figures(found: Comparison) -> Markup:
    each = [one.figures() for one in found.contenders]
    keys = dict.fromkeys(key for own in each for key in own)
    main = next(key for key in keys if key[1:] == (found.split, MODEL, found.metric))
    # The rivals of the main suite are in each run's own report.
    kept = [key for key in keys if key[0] != main[0] or key[2] == MODEL]
    suites = dict.fromkeys(key[0] for key in kept)
    return grid(_suite(found, suite, [key for key in kept if key[0] == suite], each) for suite in suites)


def _suite(found: Comparison, suite: str, keys: Sequence[Key], each: Sequence[Mapping[Key, Figure]]) -> Markup:
    rows = []
    for key in keys:
        _, split, subject, name = key
        figures = [own.get(key) for own in each]
        sign = found.sign if name == found.metric and subject == MODEL else direction.sign(name)
        whose = "" if subject == MODEL else f", {words(subject)}"
        rows.append([f"{words(name)} on {split}{whose}", *_marked(figures, sign)])
    note = f"{BEST} marks the best, where it is known whether more or less is better."
    return table(title(suite), ["figure", *found.names], rows, note)


def _marked(figures: Sequence[Figure | None], sign: int) -> list[Markup]:
    values = [sign * figure.value for figure in figures if figure is not None]
    # What is shown alike is equally good; where all are, none is the best.
    apart = sign and len({number(value) for value in values}) > 1
    best = number(max(values)) if apart else None
    return [
        _measured(one, best is not None and one is not None and number(sign * one.value) == best) for one in figures
    ]


def _measured(figure: Figure | None, best: bool) -> Markup:
    if figure is None:
        return tag("span", NOTHING, class_="value")
    bounds = tag("span", interval(figure), class_="bounds") if interval(figure) else Markup()
    value = tag("strong", f"{number(figure.value)} {BEST}") if best else number(figure.value)
    return tag("span", value, bounds, class_="value")


def _costs(found: Comparison) -> Markup:
    best, kept, names = found.undominated(), found.kept(), found.names
    quality = [figure.value for figure in found.mains]
    good = [found.sign * value for value in quality]
    charts = []
    axes = [(name, row, -1) for name, row in found.known_costs().items()]
    if None not in kept:
        axes.append((KEPT, [value for value in kept if value is not None], 1))
    for name, row, sign in axes:
        own = undominated(list(zip(good, [sign * value for value in row], strict=True)))
        label = AXES.get(name, "share of old knowledge that was kept")
        stay = listing([one for one, stays in zip(names, own, strict=True) if stays])
        plot = front(names, row, quality, own, (label, words(found.metric)))
        charts.append(chart(f"{title(found.metric)} against {label}", plot, f"Not dominated: {stay}."))
    all_kept = any(value is not None for value in kept)
    columns = ["run", words(found.metric), *(COSTS[name][0] for name in COSTS), *(["kept"] if all_kept else []), ""]
    rows = [
        [
            names[place], number(quality[place]), *(cost(found.contenders[place], name) for name in COSTS),
            *([number(kept[place])] if all_kept else []), "not dominated" if best[place] else "dominated",
        ]
        for place in found.ranked
    ]  # fmt: skip
    note = "A run is dominated where another is at least as good in every column that all have, and better in one."
    return grid([*charts, table("Quality and cost", columns, rows, note)])


def _setting(value: Any) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
