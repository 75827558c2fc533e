"""Verdicts on the page: a sign and a word each, a sentence, and the figure that decided, with its rule behind it."""

from __future__ import annotations

from tunesmith.core.panel import Verdict
from tunesmith.report.blocks import term
from tunesmith.report.markup import Markup, join, tag
from tunesmith.report.record import ASPECTS, Record
from tunesmith.report.wording import NOTHING, bounds, listing, number, title

# By their shape too, not by their colour alone: a filled circle, a diamond, a square, an empty circle.
SIGNS = {"good": "✓", "mixed": "~", "bad": "✕", "unknown": "?"}


def verdicts(record: Record) -> Markup:
    """Every verdict of the run, and what was not judged."""
    found = record.verdicts()
    if record.evaluation is None or not found:
        return Markup()
    missing = [aspect for aspect in ASPECTS if aspect not in {one.aspect for one in found}]
    told = tag("p", f"Not judged in this run: {listing(missing)}.", class_="note") if missing else Markup()
    return join([tag("ul", join(map(_line, found)), class_="verdicts"), told])


def _line(one: Verdict) -> Markup:
    grade = one.grade if one.grade in SIGNS else "unknown"
    sign = tag("span", SIGNS[grade], class_=f"sign {grade}", aria_hidden="true")
    head = [tag("p", f"{title(one.aspect)}?", class_="aspect", dir="auto"), tag("strong", one.word, dir="auto")]
    span = bounds(one.low, one.high)
    value = tag("b", number(one.value)) if one.value is not None else tag("b", NOTHING)
    measured = [term(one.figure, one.rule), " ", value, tag("span", f" ({span})", class_="bounds") if span else ""]
    said = tag("p", one.said, dir="auto")
    figure = tag("p", *measured, class_="figure", dir="auto")
    return tag("li", sign, tag("div", *head, said, figure), class_="beside" if one.support else None)
