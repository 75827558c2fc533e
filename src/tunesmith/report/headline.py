"""The top of the page: what the run comes to, in words and beside what it had to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith.core.panel import Figure, Result
from tunesmith.report.blocks import chart, table, term
from tunesmith.report.judged import verdicts
from tunesmith.report.lead import MODEL, Lead, lead
from tunesmith.report.markup import Markup, join, tag
from tunesmith.report.plots import intervals
from tunesmith.report.record import Record
from tunesmith.report.wording import NOTHING, interval, listing, number, percent, title, words


def headline(record: Record) -> Markup:
    """Title, the verdicts, and the main metric beside the baselines'."""
    name = record.evaluation.title if record.evaluation else record.folder.name
    found = lead(record)
    run = tag("p", "tunesmith run ", tag("bdi", record.folder.resolve().name), class_="eyebrow")
    shown = _lead(found, defines_of(record, found.suite)) if found else _unjudged(record)
    return tag("header", run, tag("h1", name.replace("->", "→"), dir="auto"), verdicts(record), shown)


def compared(found: Lead, suite: Result, higher_is_better: bool) -> list[Markup]:
    """Every figure of the main suite for the model and the baselines, and the main one as a chart."""
    better = "higher" if higher_is_better else "lower"
    plot = intervals([found.main, *found.baselines], words(found.main.name))
    caption = f"{title(found.main.name)} on {found.main.split} ({better} is better)"
    first = figure_table(suite.figures, suite.defines, first=found.main.name)
    return [first, chart(caption, plot, _whiskers(found))]


def figure_table(figures: Sequence[Figure], defines: Mapping[str, str], first: str = "") -> Markup:
    """Subjects down, metrics across, intervals beneath; the metric `first` stands first. defines: what they are."""
    metrics = sorted(dict.fromkeys(figure.name for figure in figures), key=lambda name: name != first)
    splits = list(dict.fromkeys(figure.split for figure in figures))
    cells = {(figure.subject, figure.split, figure.name): figure for figure in figures}
    lines = sorted(
        dict.fromkeys((figure.subject, figure.split) for figure in figures), key=lambda line: line[0] != MODEL
    )
    rows = []
    for subject, split in lines:
        rows.append(
            [
                words(subject),
                *([split] if len(splits) > 1 else []),
                *(_measured(cells.get((subject, split, name))) for name in metrics),
            ]
        )
    named = [term(words(name), defines.get(name, "")) for name in metrics]
    columns = ["subject", *(["split"] if len(splits) > 1 else []), *named]
    where = f" on {listing(splits)}" if len(splits) <= 3 else ""
    return table(f"Figures{where}", columns, rows, _confidence(figures))


def defines_of(record: Record, suite: str) -> Mapping[str, str]:
    """What the figures of a suite are, by their names."""
    return record.evaluation.suites[suite].defines if record.evaluation else {}


def _lead(found: Lead, defines: Mapping[str, str]) -> Markup:
    name = [term(words(found.main.name), defines.get(found.main.name, "")), f" on {found.main.split}"]
    cards = [_score(found.main, name, "score model")]
    cards += [_score(figure, [words(figure.subject)], "score") for figure in found.baselines]
    return join([tag("div", join(cards), class_="scores"), tag("p", found.sentence, class_="lead", dir="auto")])


def _score(figure: Figure, name: Sequence[object], class_: str) -> Markup:
    bounds = tag("span", interval(figure), class_="bounds") if interval(figure) else Markup()
    named = tag("span", *name, class_="name", dir="auto")
    return tag("div", named, tag("b", number(figure.value)), bounds, class_=class_)


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


def _whiskers(found: Lead) -> str:
    return f"Whiskers: {percent(found.main.confidence)} intervals." if interval(found.main) else ""
