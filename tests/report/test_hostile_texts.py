"""Texts that a page and a terminal must show as they are: in every place of an evaluation that holds a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tunesmith.core.panel import Bars, Figure, Heatmap, Lines, Marked, Points, Result, Table, Tokens, Verdict
from tunesmith.report.page import render
from tunesmith.report.terminal import summary

TEXTS = {
    "html": '<b onmouseover="evil()">bold</b> & <i>more</i>',
    "script": "</script><script>evil()</script><!-- ",
    "attribute": "\" onclick='evil()' x=\"",
    "long": "Rindfleischetikettierung" * 210,
    "arabic": "مرحبا بالعالم، كيف الحال؟",
    "hebrew": "שלום עולם",
    "emoji": "👩‍🚀🇩🇪 e\u0301",
    "controls": "a\x00b\x1b[2Jc\x08d\x7f",
    "turned": "safe \u202eterces",
}
ATTRIBUTES = {
    *("aria-hidden", "aria-label", "charset", "class", "content", "dir", "height", "href", "http-equiv", "id", "lang"),
    *("name", "popover", "popovertarget", "role", "scope", "style", "tabindex", "title", "type"),
}


class Reader(HTMLParser):
    """Collects elements with their attributes, and all text that a reader sees or a chart is drawn from."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.data: list[Any] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = "data" if tag == "script" and dict(attrs).get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data.append(json.loads(data))
        elif self._inside not in ("script", "style"):
            self.texts.append(data)


def evaluation(text: str) -> dict[str, Any]:
    """`text` wherever an evaluation holds one, with the name of the place before it."""
    numbers, pairs = [0.25, 0.5], {f"series {text}": ([0.0, 1.0], [1.0, 0.0])}
    panels = [
        Table(f"table {text}", [f"column {text}"], [[f"cell {text}"]], f"note {text}"),
        Bars(f"bars {text}", [f"label {text}", "b"], {f"series {text}": numbers}, f"x {text}", f"y {text}"),
        Lines(f"lines {text}", pairs, f"x {text}", f"y {text}", f"lines note {text}"),
        Heatmap(f"map {text}", [f"row {text}"], [f"col {text}"], [[0.5]], note=f"map note {text}"),
        Points(f"points {text}", numbers, numbers, f"x {text}", f"y {text}", f"points note {text}"),
        Marked(f"marked {text}", [f"caption {text}"], [[Tokens("input", [f"token {text}"], [True])]]),
    ]
    figures = [
        Figure(f"metric {text}", 0.9, low=0.8, high=1.0),
        Figure(f"metric {text}", 0.5, subject=f"subject {text}"),
        Figure(f"metric {text}", 0.6, split=f"split {text}"),
    ]
    fields = {name: f"{name} {text}" for name in ("word", "said", "figure", "rule")}
    verdict = Verdict("learned", "good", value=0.4, **fields)  # type: ignore[arg-type]
    defines = {f"metric {text}": f"definition {text}"}
    whole = Result(figures, panels, "", [verdict], f"asks {text}", defines)
    suites = {f"suite {text}": whole, f"broken {text}": Result(failed=f"reason {text}")}
    return {
        "title": f"title {text}",
        "metric": f"metric {text}",
        "suites": {name: one.as_json() for name, one in suites.items()},
        "cost": {f"cost {text}": f"price {text}"},
        "artifact": {"folder": "model"},
    }


def told(value: Any) -> Iterator[str]:
    """Every text of an evaluation, but for those that name a kind, a grade or the like."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from told(item)
        yield from value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from told(item)


@pytest.fixture(params=TEXTS.values(), ids=TEXTS)
def text(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


def visible(text: str) -> str:
    """As a page shows it: blanks run together, controls as the signs that stand for them."""
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 32 else "\u2421" if c == "\x7f" else c for c in text)


def test_the_page_shows_every_text_and_takes_none_for_html(tmp_path: Path, text: str) -> None:
    values = evaluation(text)
    (tmp_path / "evaluation.json").write_text(json.dumps(values))
    reader = Reader()
    reader.feed(render(tmp_path))
    names = [name for name, _ in reader.elements]
    assert not {"i", "img", "iframe"} & set(names)
    assert [found for name, found in reader.elements if name == "script" and not found] == [{}, {}]
    assert {name for _, found in reader.elements for name in found} <= ATTRIBUTES
    # Of a user's text no attribute but a name for screen readers and a link's target is made.
    for _, found in reader.elements:
        for name, value in found.items():
            assert name == "aria-label" or visible(text) not in (value or "")
    shown = "\n".join(reader.texts).lower()
    drawn = json.dumps(reader.data, ensure_ascii=False).lower()
    in_charts = ("label", "series", "x ", "y ", "row ", "col ")
    for place in told(values):
        if text in place and not place.startswith(in_charts):
            # Names begin with a capital letter in some places, and without underscores.
            assert visible(place).lower() in shown, place
    for place in in_charts:
        assert place.strip() in drawn


def test_texts_turn_in_their_own_place(tmp_path: Path) -> None:
    """Every element that holds nothing but a user's text finds its direction from that text."""
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation(TEXTS["arabic"])))
    reader = Reader()
    reader.feed(render(tmp_path))
    for element in ("h1", "h2", "h4", "th", "caption", "figcaption", "strong", "button"):
        found = [attributes for name, attributes in reader.elements if name == element]
        assert found and all(attributes.get("dir") == "auto" for attributes in found), element


def test_the_terminal_obeys_no_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation(text)))
    console = Console(width=20_000)
    with console.capture() as capture:
        console.print(summary(tmp_path))
    printed = capture.get()
    assert not set(printed) & {"\x00", "\x1b", "\x08", "\x7f", "\u202e"}
    bare = "".join(c for c in text if c not in "\x00\x1b\x08\x7f\u202e")
    for place in ("title", "word", "figure", "metric"):
        assert f"{place} {bare}" in printed


def test_verdicts_come_back_from_json() -> None:
    verdict = Verdict("kept", "bad", "Forgot much", "Lost.", "score", 0.4, 0.3, 0.5, "A rule.", True)
    assert Verdict(**json.loads(json.dumps(asdict(verdict)))) == verdict
