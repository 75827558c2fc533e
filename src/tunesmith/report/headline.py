"""The top of the page: what the run comes to, beside what it had to beat."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.core.panel import Figure
from tunesmith.report.blocks import absent, chart, grid, table
from tunesmith.report.markup import Markup, join, tag
from tunesmith.report.plots import intervals
from tunesmith.report.record import Record
from tunesmith.report.verdict import MODEL, Verdict, verdict
from tunesmith.report.wording import NOTHING, interval, listing, number, percent, title, words


def headline(record: Record) -> Markup:
    """Title, the main metric beside the baselines', and the sentence that says it in words."""
    name = record.evaluation.title if record.evaluation else record.folder.name
    found = verdict(record)
    lead = _lead(found) if found else _unjudged(record)
    run = tag("p", "tunesmith run ", tag("bdi", record.folder.resolve().name), class_="eyebrow")
    return tag("header", run, tag("h1", name.replace("->", "→"), dir="auto"), lead)


def comparison(record: Record) -> Markup:
    """Every figure of the main suite for the model and the baselines, and the main one as a chart."""
    if record.evaluation is None:
        return absent("evaluation.json")
    found = verdict(record)
    if found is None:
        return tag("p", "The main metric was not measured on the model.", class_="absent")
    figures = record.evaluation.suites[found.suite].figures
    better = "higher" if record.evaluation.higher_is_better else "lower"
    plot = intervals([found.main, *found.baselines], words(found.main.name))
    caption = f"{title(found.main.name)} on {found.main.split} ({better} is better)"
    return grid([figure_table(figures, first=found.main.name), chart(caption, plot, _whiskers(found))])


def figure_table(figures: Sequence[Figure], first: str = "") -> Markup:
    """Subjects down, metrics across, intervals beneath; the metric `first` stands first."""
    metrics = sorted(dict.fromkeys(figure.name for figure in figures), key=lambda name: name != first)
    splits = list(dict.fromkeys(figure.split for figure in figures))
    cells = {(figure.subject, figure.split, figure.name): figure for figure in figures}
    lines = sorted(
        dict.fromkeys((figure.subject, figure.split) for figure in figures), key=lambda line: line[0] != MODEL
    )
    rows = []
    for subject, split in lines:
        where = [split] if len(splits) > 1 else []
        rows.append([words(subject), *where, *(_measured(cells.get((subject, split, name))) for name in metrics)])
    columns = ["subject", *(["split"] if len(splits) > 1 else []), *map(words, metrics)]
    return table(f"Figures on {listing(splits)}", columns, rows, _confidence(figures))


def _lead(found: Verdict) -> Markup:
    cards = [_score(found.main, "score model"), *(_score(figure, "score") for figure in found.baselines)]
    sentences = tag("p", found.sentence, " ", tag("strong", found.judgement), class_="lead", dir="auto")
    return join([tag("div", join(cards), class_="scores"), sentences])


def _score(figure: Figure, class_: str) -> Markup:
    bounds = tag("span", interval(figure), class_="bounds") if interval(figure) else Markup()
    name = f"{words(figure.name)} on {figure.split}" if figure.subject == MODEL else words(figure.subject)
    return tag(
        "div", tag("span", name, class_="name", dir="auto"), tag("b", number(figure.value)), bounds, class_=class_
    )


def _unjudged(record: Record) -> Markup:
    validations = record.of_kind("evaluation")
    text = "The main metric was not measured on the model." if record.evaluation else "This run has no evaluation yet."
    if validations:
        last = validations[-1]
        values = [f"{words(name)} {number(value)}" for name, value in (last.get("metrics") or {}).items()]
        text += f" At step {number(last['step'])}, on {last.get('split', 'validation')}: {listing(values)}."
    return tag("p", text, class_="lead", dir="auto")


def _measured(figure: Figure | None) -> Markup:
    if figure is None:
        return tag("span", NOTHING, class_="value")
    bounds = tag("span", interval(figure), class_="bounds") if interval(figure) else Markup()
    return tag("span", number(figure.value), bounds, class_="value")


def _confidence(figures: Sequence[Figure]) -> str:
    levels = sorted({figure.confidence for figure in figures if interval(figure)})
    return f"Beneath a value its {listing([percent(level) for level in levels])} interval." if levels else ""


def _whiskers(found: Verdict) -> str:
    return f"Whiskers: {percent(found.main.confidence)} intervals." if interval(found.main) else ""
