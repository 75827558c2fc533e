"""The body of the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.report import sections
from tunesmith.report.record import Evaluation, Record, read


@pytest.fixture
def record(run_folder: Path) -> Record:
    return read(run_folder)


def test_curves(record: Record) -> None:
    written = sections.curves(record)
    for title in ("Loss", "Metrics on validation", "Perplexity on validation", "Learning rate", "Gradient norm"):
        assert f">{title}</figcaption>" in written
    assert "training: l2 sp" in written


def test_one_term_of_the_loss_is_not_drawn_twice(record: Record) -> None:
    steps = [{"event": "step", "step": 1, "loss": 1.0, "losses": {"supervised": 1.0}, "gradient_norm": None}]
    written = sections.curves(replace(record, events=steps))
    assert "training: supervised" not in written and "Gradient norm" not in written


def test_cost(record: Record) -> None:
    written = sections.cost(record)
    for text in (
        "147,456 of 22,713,216 (0.649 %)",
        "12 min 34 s",
        "3.42 GB",
        "bfloat16",
        "largest difference of 1.2e-7",
    ):
        assert text in written


def test_an_artifact_that_is_bit_equal(record: Record) -> None:
    artifact = {"folder": "model", "compared_rows": 32, "largest_difference": 0.0}
    written = sections.cost(replace(record, evaluation=Evaluation("t", "m", artifact=artifact)))
    assert "with a largest difference of 0." in written and "no cost in evaluation.json" in written


def test_a_section_a_suite_with_its_question(record: Record) -> None:
    found = sections.suites(record)
    assert list(found)[:3] == ["Task", "Calibration", "Drift"]
    task = found["Task"]
    assert task.startswith('<p class="asks" dir="auto">How good are the answers?</p>')
    assert task.count("Figures on test") == 2 and task.count("</table>") == 3 and "Mistakes" in task
    assert ">expected calibration error<" in found["Calibration"]


def test_a_suite_that_failed_says_why(record: Record) -> None:
    *_, failed = sections.suites(record).values()
    assert "This could not be measured: OSError: " in failed and "<img" not in failed


def test_how_to_repeat_a_run(record: Record) -> None:
    folder = record.folder.with_name("a run's")
    written = sections.repeat(replace(record, folder=folder))
    # The shell's own quotes, as HTML writes them.
    assert (
        f"tunesmith train &#x27;{record.folder.parent}/a run&#x27;&quot;&#x27;&quot;&#x27;s/recipe.yaml&#x27;"
        in written
    )
    assert "cuda (NVIDIA H200)" in written and ">0.1.0<" in written


def test_data_and_files(record: Record) -> None:
    written = sections.data(record)
    assert "Tokens in an example" in written and "data/train.csv" in written and "10,003" in written
    assert f'title="{"0f" * 32}"' in written


def test_notes_recipe_environment(record: Record) -> None:
    assert "12 rows were dropped: &lt;script&gt;" in sections.notes(record)
    assert "builtin:minilm" in sections.recipe(record) and "<details" in sections.recipe(record)
    written = sections.environment(record)
    assert "packages: tokenizers" in written and "3.11.8" in written and "sha256" not in written


def test_a_seed_is_a_name_not_an_amount(record: Record) -> None:
    environment = {"seed": 12345, "flags": ["a", True], "nothing": None}
    written = sections.environment(replace(record, environment=environment))
    assert ">12345<" in written and ">a and yes<" in written


def test_every_section_of_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    record = read(tmp_path)
    for section in (
        sections.curves,
        sections.cost,
        sections.data,
        sections.recipe,
        sections.repeat,
        sections.environment,
    ):
        assert "Not there yet" in section(record)
    assert "Nothing was said" in sections.notes(record)
    assert "Not there yet" in sections.suites(record)["Measurements"]


def test_an_evaluation_line_without_metrics(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"event": "evaluation", "step": 1, "metrics": None}))
    assert "figcaption" not in sections.curves(read(tmp_path))
