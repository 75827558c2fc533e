"""The pieces that sections are built of: tables, charts, cards of facts, folded texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from tunesmith.core.panel import Heatmap, Marked, Panel, Table
from tunesmith.report.markup import Markup, data, join, tag
from tunesmith.report.plots import NUMBERS_IN_CELLS, Plot, plot
from tunesmith.report.wording import cell, number

SHOWN_ROWS = 1000
WIDE_COLUMNS = 5
LONG_TEXT = 40
"""Characters of a cell from which on its column is not squeezed into many short lines."""
WIDE_TEXT = 160
# Pixels; a taller chart scrolls inside its box (`.chart` in page.css).
TALL = 800


def table(caption: str, columns: Sequence[object], rows: Sequence[Sequence[object]], note: str = "") -> Markup:
    """A table that scrolls inside its own box; the first cell of a row names the row."""
    head = tag("tr", *(_heading(column, [row[place] for row in rows]) for place, column in enumerate(columns)))
    body = join(tag("tr", *(_cell(value, place) for place, value in enumerate(row))) for row in rows[:SHOWN_ROWS])
    if len(rows) > SHOWN_ROWS:
        note = f"{note} The first {number(SHOWN_ROWS)} of {number(len(rows))} rows.".strip()
    grid = tag("table", tag("caption", caption, dir="auto"), tag("thead", head), tag("tbody", body))
    # A box that scrolls must be reachable by keyboard.
    box = tag("div", grid, class_="scroll", tabindex=0, role="region", aria_label=caption)
    return tag("div", box, _note(note), class_=_wide("card", len(columns) >= WIDE_COLUMNS or _has_long_text(rows)))


def chart(caption: str, figure: Plot, note: str = "", *, wide: bool = False) -> Markup:
    """A place where the page's script draws `figure`, with its data behind it."""
    height = figure["layout"]["height"]
    place = tag("div", class_="plot", role="img", aria_label=caption, style=f"height:{height}px")
    reach = {"tabindex": 0, "role": "region", "aria_label": caption} if wide or height > TALL else {}
    box = tag("div", place, data(figure), class_="scroll chart", **reach)
    return tag("figure", tag("figcaption", caption, dir="auto"), box, _note(note), class_=_wide("card", wide))


def panel(shown: Panel) -> Markup:
    """A panel of a suite as a table or a chart."""
    if isinstance(shown, Table):
        return table(shown.title, shown.columns, shown.rows, shown.note)
    if isinstance(shown, Marked):
        return marked(shown)
    crowded = isinstance(shown, Heatmap) and max(len(shown.rows), len(shown.columns)) > NUMBERS_IN_CELLS
    return chart(shown.title, plot(shown), shown.note, wide=crowded)


def marked(shown: Marked) -> Markup:
    """Examples token by token; those that carry loss are marked."""
    found = []
    for caption, sequences in zip(shown.captions, shown.examples, strict=True):
        found.append(tag("h4", caption, dir="auto"))
        for one in sequences:
            words = (tag("mark" if loss else "span", token) for token, loss in zip(one.tokens, one.loss, strict=True))
            found.append(tag("p", tag("b", f"{one.name} "), join(words), class_="tokens", dir="auto"))
    box = tag("div", tag("h3", shown.title), *found)
    return tag("div", box, _note(shown.note), class_="card wide")


def grid(cards: Iterable[Markup]) -> Markup:
    """Cards side by side where there is room."""
    return tag("div", join(cards), class_="grid")


def facts(pairs: Mapping[str, object]) -> Markup:
    """Names with their values."""
    rows = (tag("div", tag("dt", name), tag("dd", value, dir="auto")) for name, value in pairs.items())
    return tag("dl", join(rows), class_="facts card")


def folded(summary: str, text: str) -> Markup:
    """A long text behind a line that opens it."""
    return tag("details", tag("summary", summary), tag("pre", text, tabindex=0), class_="card")


def term(name: str, text: str) -> Markup:
    """A name that shows what it is when it is pressed; `definitions` holds the text. Without one, the name alone."""
    if not text:
        return tag("bdi", name)
    return tag("button", name, type="button", class_="term", dir="auto", popovertarget=_place(name, text))


def definitions(known: Iterable[tuple[str, str]]) -> Markup:
    """What terms show when they are pressed, and paper shows at the end: names with their texts, each once."""
    shown = (
        tag("div", tag("b", name), tag("p", text), id=_place(name, text), popover="auto", dir="auto")
        for name, text in dict.fromkeys(known)
        if text
    )
    return tag("section", tag("h2", "What the figures are", dir="auto"), join(shown), class_="definitions")


def absent(name: str) -> Markup:
    """What stands in the place of something that the run has not written."""
    return tag("p", f"Not there yet: this run folder has no {name}.", class_="absent")


def _place(name: str, text: str) -> str:
    return f"define-{hashlib.sha256(f'{name}: {text}'.encode('utf-8', 'replace')).hexdigest()[:12]}"


def _heading(column: object, below: list[object]) -> Markup:
    found = [value for value in below if value is not None]
    numbers = bool(found) and all(isinstance(value, int | float) for value in found)
    return tag("th", column, scope="col", dir="auto", class_="number" if numbers else None)


def _cell(value: object, place: int) -> Markup:
    if isinstance(value, int | float) and place:
        return tag("td", number(value), class_="number")
    text = value if isinstance(value, Markup) else cell(value if isinstance(value, str | int | float) else None)
    if not place:
        return tag("th", text, scope="row", dir="auto")
    return tag("td", text, dir="auto", class_="long" if isinstance(value, str) and len(value) > LONG_TEXT else None)


def _note(text: str) -> Markup:
    return tag("p", text, class_="note", dir="auto") if text else Markup()


def _wide(name: str, wide: bool) -> str:
    return f"{name} wide" if wide else name


def _has_long_text(rows: Sequence[Sequence[object]]) -> bool:
    return any(
        sum(len(value) for value in row if isinstance(value, str) and not isinstance(value, Markup)) > WIDE_TEXT
        for row in rows
    )
