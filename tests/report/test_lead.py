"""The sentence that a report leads with."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.panel import Figure, Result
from tunesmith.report.lead import Lead, lead
from tunesmith.report.record import Evaluation, Record, read


def leading(*figures: Figure, higher: bool = True, rows: int | None = None) -> Lead | None:
    """What leads with figures of the metric `score`."""
    environment = {"data": {"test": {"rows": rows}}} if rows else None
    evaluation = Evaluation("title", "score", higher, {"task": Result(list(figures), [])})
    return lead(Record(Path(), None, environment, None, None, evaluation))


def model(value: float, low: float | None = None, high: float | None = None) -> Figure:
    return Figure("score", value, low=low, high=high)


def rival(value: float, low: float | None = None, high: float | None = None) -> Figure:
    return Figure("score", value, subject="always_the_mean", low=low, high=high)


def test_the_whole_sentence(run_folder: Path) -> None:
    found = lead(read(run_folder))
    assert found is not None
    assert found.sentence == (
        "The model's accuracy is 0.913 (95 % interval 0.890 to 0.931) on 3,080 test rows, "
        "against 0.120 for most frequent class and 0.834 for linear model on word counts."
    )


def test_the_test_split_comes_before_validation() -> None:
    validation = Figure("score", 0.5, split="validation")
    only, both = leading(validation), leading(validation, model(0.4))
    assert only is not None and only.main.split == "validation"
    assert both is not None and both.main.value == 0.4


def test_without_a_main_figure_nothing_leads() -> None:
    assert leading(Figure("other", 1.0), rival(0.5)) is None
    assert lead(Record(Path(), None, None, None, None, None)) is None


def test_baselines_are_those_of_the_same_metric_and_split() -> None:
    other = Figure("other", 0.9, subject="a rival")
    found = leading(model(0.2, 0.1, 0.3), rival(0.5), rival(0.9), other, higher=False)
    assert found is not None and [figure.value for figure in found.baselines] == [0.5]


def test_without_baseline_and_interval_the_sentence_is_short() -> None:
    alone = leading(model(0.7), rows=1)
    assert alone is not None and alone.sentence == "The model's score is 0.700 on 1 test row."
