"""What a run comes to, in one or two plain sentences: the main metric beside the baselines'.

Built from the figures alone: the subject `model` against all other subjects, whatever the task.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.core.panel import Figure
from tunesmith.report.record import Evaluation, Record
from tunesmith.report.wording import interval, listing, number, percent, words

MODEL = "model"
SPLITS = ("test", "validation")
FEW = 10
"""Fewer rows than these vary too little when they are drawn again: their intervals are too narrow."""


@dataclass(frozen=True)
class Verdict:
    """The main figure, those of the baselines on the same split, and what they say together."""

    suite: str
    main: Figure
    baselines: list[Figure]
    sentence: str
    judgement: str


def verdict(record: Record) -> Verdict | None:
    """Judge the run; None where the main metric was not measured on the model."""
    evaluation = record.evaluation
    found = _main(evaluation) if evaluation else None
    if evaluation is None or found is None:
        return None
    suite, main = found
    others: dict[str, Figure] = {}
    for figure in evaluation.suites[suite].figures:
        if (figure.name, figure.split) == (main.name, main.split) and figure.subject != MODEL:
            others.setdefault(figure.subject, figure)
    baselines = list(others.values())
    judgement = _judgement(main, baselines, evaluation.higher_is_better, _rows(record, main.split))
    return Verdict(suite, main, baselines, _sentence(record, main, baselines), judgement)


def on_rows(record: Record, split: str) -> str:
    """'on 210 test rows', or 'on the test rows' where their count is not known."""
    rows = _rows(record, split)
    return f"on the {split} rows" if rows is None else f"on {_counted(rows, split)}"


def _rows(record: Record, split: str) -> int | None:
    data = (record.environment or {}).get("data")
    about = data.get(split) if isinstance(data, dict) else None
    rows = about.get("rows") if isinstance(about, dict) else None
    return rows if isinstance(rows, int) else None


def _counted(rows: int, split: str) -> str:
    return f"{number(rows)} {split} row{'' if rows == 1 else 's'}"


def _main(evaluation: Evaluation) -> tuple[str, Figure] | None:
    for split in SPLITS:
        for name, suite in evaluation.suites.items():
            for figure in suite.figures:
                if (figure.name, figure.split, figure.subject) == (evaluation.metric, split, MODEL):
                    return name, figure
    return None


def _sentence(record: Record, main: Figure, baselines: list[Figure]) -> str:
    bounds = f" ({percent(main.confidence)} interval {interval(main)})" if interval(main) else ""
    against = listing([f"{number(figure.value)} for {words(figure.subject)}" for figure in baselines])
    ending = f", against {against}." if against else "."
    return f"The model's {words(main.name)} is {number(main.value)}{bounds} {on_rows(record, main.split)}{ending}"


def _judgement(main: Figure, baselines: list[Figure], higher_is_better: bool, rows: int | None) -> str:
    if not baselines:
        return "No baseline was measured."
    sign = 1 if higher_is_better else -1
    best = max(baselines, key=lambda figure: sign * figure.value)
    name = f"the best baseline, {words(best.subject)}"
    # Nor is a difference one that the figures, as they are shown, don't have.
    if sign * main.value <= sign * best.value or number(main.value) == number(best.value):
        return f"That is no better than {name}."
    if rows is not None and rows < FEW:
        return f"That is better than {name}, but {_counted(rows, main.split)} can't rule out chance."
    if not interval(main):
        return f"That is better than {name}."
    if _apart(main, best):
        return f"That is better than {name}, beyond what chance explains."
    return f"That is better than {name}, but the intervals overlap: more test rows would be needed to be sure."


def _apart(one: Figure, other: Figure) -> bool:
    low, high = _bounds(one)
    other_low, other_high = _bounds(other)
    return low > other_high or high < other_low


def _bounds(figure: Figure) -> tuple[float, float]:
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    return low, high
