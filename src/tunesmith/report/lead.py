"""What a report leads with, in one plain sentence: the main metric beside the baselines'.

Built from the figures alone: the subject `model` against all other subjects, whatever the task.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.core.panel import Figure
from tunesmith.report.record import Evaluation, Record
from tunesmith.report.wording import interval, listing, number, percent, words

MODEL = "model"
SPLITS = ("test", "validation")


@dataclass(frozen=True)
class Lead:
    """The main figure, those of the baselines on the same split, and a sentence that names them."""

    suite: str
    main: Figure
    baselines: list[Figure]
    sentence: str


def lead(record: Record) -> Lead | None:
    """What to lead with; None where the main metric was not measured on the model."""
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
    return Lead(suite, main, baselines, _sentence(record, main, baselines))


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
