"""The top of the page."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.core.panel import Figure
from tunesmith.report.headline import compared, figure_table, headline
from tunesmith.report.lead import lead
from tunesmith.report.record import read


def test_the_model_stands_beside_what_it_had_to_beat(run_folder: Path) -> None:
    written = headline(read(run_folder))
    assert "<h1" in written and "classify: text → intent" in written
    assert written.count('class="score"') == 2 and written.count('class="score model"') == 1
    assert "first-run" in written and "on 3,080 test rows" in written


def test_a_run_without_evaluation_says_where_it_stands(run_folder: Path) -> None:
    (run_folder / "evaluation.json").unlink()
    written = headline(read(run_folder))
    assert "This run has no evaluation yet. At step 100, on validation: loss" in written


def test_an_evaluation_without_the_main_metric(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps({"title": "t", "metric": "accuracy"}))
    assert "was not measured" in headline(read(tmp_path))


def test_the_comparison_has_a_table_and_a_chart(run_folder: Path) -> None:
    record = read(run_folder)
    found = lead(record)
    assert found is not None and record.evaluation is not None
    first, chart = compared(found, record.evaluation.suites["task"], True)
    assert "<table>" in first and "macro f1" in first
    assert 'class="plot"' in chart and "higher is better" in chart


def test_subjects_down_metrics_across() -> None:
    figures = [
        Figure("loss", 2.0, subject="baseline"),
        Figure("accuracy", 0.5, low=0.25, high=0.75, confidence=0.9),
        Figure("loss", 1.0),
    ]
    written = figure_table(figures, {"loss": "How wrong."}, first="accuracy")
    assert written.index(">accuracy<") < written.index(">loss<")
    assert written.count("popovertarget") == 1
    assert written.index(">model<") < written.index(">baseline<")
    assert "0.250 to 0.750" in written and "Beneath a value its 90 % interval." in written
    assert ">–<" in written and ">split<" not in written


def test_splits_are_told_apart() -> None:
    written = figure_table([Figure("f1", 0.5), Figure("f1", 0.6, split="validation")], {})
    assert ">split<" in written and "Figures on test and validation" in written
