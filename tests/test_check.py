"""`check` shows what a run would do and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith import check, examples
from tunesmith.core.errors import RecipeError
from tunesmith.core.panel import Marked, Table
from tunesmith.recipe import from_values


def checked(folder: Path, **values: Any) -> check.Checked:
    rows = toy.write_csv(folder / "rows.csv")
    data = {"train": str(rows), "validation": 0.2, "test": 0.2}
    train = {"device": "cpu", "precision": "float32", "batch_size": 8, "epochs": 2, **values.pop("train", {})}
    return check.check(from_values({"model": "builtin:tiny-bert", "data": data, "train": train, **values}))


def table(found: check.Checked, title: str) -> Table:
    (panel,) = [panel for panel in found.panels if panel.title == title]
    assert isinstance(panel, Table)
    return panel


def test_facts_are_those_of_the_run(tmp_path: Path, full_run: Path) -> None:
    found = checked(tmp_path).facts
    environment = json.loads((full_run / "environment.json").read_text())
    start = json.loads((full_run / "metrics.jsonl").read_text().splitlines()[0])
    assert found["examples"] == environment["data"]["train"]["rows"]
    assert found["updates"] == start["total_steps"]
    assert found["trained_parameters"] == found["total_parameters"] == 30_755
    assert found["cut"] == 0 and found["sampled"] == found["examples"]
    assert 0 < found["seconds_a_step"] < 5
    assert found["estimated_seconds"] == pytest.approx(found["seconds_a_step"] * found["updates"])
    assert found["estimated_peak_memory_bytes"] > 1e8


def test_it_shows_what_the_model_sees_and_what_is_cut(tmp_path: Path) -> None:
    found = checked(tmp_path, task={"name": "classify", "max_length": 12})
    seen = next(panel for panel in found.panels if isinstance(panel, Marked))
    assert len(seen.examples) == examples.SHOWN
    for caption, sequences in zip(seen.captions, seen.examples, strict=True):
        assert caption.split(" = ")[1] in toy.CLASSES and len(sequences[0].tokens) == 12
        assert sequences[0].tokens[0] == "<s>" and sequences[0].tokens[-1] == "</s>"
    assert found.facts["cut"] == found.facts["sampled"] and found.facts["tokens_longest"] == 12
    assert "are cut" in table(found, "What truncation cuts").note
    assert "What truncation cuts" not in [panel.title for panel in checked(tmp_path).panels]


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = checked(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert json.loads(json.dumps(found.as_json()))["updates"] == found.facts["updates"]


@pytest.mark.parametrize("steps", [1, 2, 500])
def test_short_and_long_runs_are_timed_alike(steps: int, tmp_path: Path) -> None:
    found = checked(tmp_path, train={"steps": steps}).facts
    assert found["updates"] == steps
    assert found["estimated_seconds"] == pytest.approx(found["seconds_a_step"] * steps)


def test_what_a_run_would_refuse_is_refused(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    data = {"train": str(rows), "validation": None}
    with pytest.raises(RecipeError, match="no validation split"):
        check.check(from_values({"data": data, "model": "builtin:tiny-bert", "schedules": ["early_stop"]}))


def test_the_stopwatch_leaves_the_first_step_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 6.0, 8.0])
    monkeypatch.setattr(check.time, "perf_counter", lambda: next(clock))
    stopwatch = check.Stopwatch()
    next(clock)
    for _ in range(3):
        stopwatch.after_step(None)  # type: ignore[arg-type]
    assert stopwatch.seconds == 1.5
