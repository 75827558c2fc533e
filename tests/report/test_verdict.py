"""The sentence a run comes to."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.panel import Figure, Result
from tunesmith.report.record import Evaluation, Record, read
from tunesmith.report.verdict import Verdict, verdict


def judged(*figures: Figure, higher: bool = True, rows: int | None = None) -> Verdict | None:
    """The verdict on figures of the metric `score`."""
    environment = {"data": {"test": {"rows": rows}}} if rows else None
    evaluation = Evaluation("title", "score", higher, {"task": Result(list(figures), [])})
    return verdict(Record(Path(), None, environment, None, None, evaluation))


def model(value: float, low: float | None = None, high: float | None = None) -> Figure:
    return Figure("score", value, low=low, high=high)


def rival(value: float, low: float | None = None, high: float | None = None) -> Figure:
    return Figure("score", value, subject="always_the_mean", low=low, high=high)


def test_the_whole_sentence(run_folder: Path) -> None:
    found = verdict(read(run_folder))
    assert found is not None
    assert found.sentence == (
        "The model's accuracy is 0.913 (95 % interval 0.890 to 0.931) on 3,080 test rows, "
        "against 0.120 for most frequent class and 0.834 for linear model on word counts."
    )
    assert found.judgement.startswith("That is better than the best baseline, linear model on word counts, beyond")


def test_the_test_split_comes_before_validation() -> None:
    validation = Figure("score", 0.5, split="validation")
    only, both = judged(validation), judged(validation, model(0.4))
    assert only is not None and only.main.split == "validation"
    assert both is not None and both.main.value == 0.4


def test_without_a_main_figure_there_is_no_verdict() -> None:
    assert judged(Figure("other", 1.0), rival(0.5)) is None
    assert verdict(Record(Path(), None, None, None, None, None)) is None


def test_overlapping_intervals_are_said() -> None:
    found = judged(model(0.8, 0.7, 0.9), rival(0.75, 0.65, 0.85))
    assert found is not None and "intervals overlap" in found.judgement


def test_few_rows_tell_nothing_of_chance() -> None:
    few, more = (judged(model(0.8, 0.8, 0.8), rival(0.5, 0.5, 0.5), rows=rows) for rows in (1, 10))
    assert few is not None and few.judgement.endswith("the mean, but 1 test row can't rule out chance.")
    assert more is not None and "beyond what chance explains" in more.judgement


def test_no_better_in_either_direction() -> None:
    worse, tied = judged(model(0.7), rival(0.75)), judged(model(0.7), rival(0.7))
    error = judged(model(0.75), rival(0.7), higher=False)
    for found in (worse, tied, error, judged(model(1.0), rival(1.0 - 1e-12), rows=20)):
        assert found is not None and found.judgement == "That is no better than the best baseline, always the mean."


def test_where_lower_is_better() -> None:
    found = judged(model(0.2, 0.1, 0.3), rival(0.5), rival(0.9), higher=False)
    assert found is not None and "beyond what chance explains" in found.judgement
    assert [figure.value for figure in found.baselines] == [0.5]


def test_without_interval_or_baseline_nothing_is_claimed() -> None:
    alone, bare = judged(model(0.7), rows=1), judged(model(0.7), rival(0.5))
    assert alone is not None and alone.judgement == "No baseline was measured."
    assert alone.sentence == "The model's score is 0.700 on 1 test row."
    assert bare is not None and bare.judgement == "That is better than the best baseline, always the mean."
