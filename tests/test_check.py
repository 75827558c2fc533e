"""`check` shows what a run would do and writes nothing."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith import check, examples
from tunesmith.core.errors import RecipeError
from tunesmith.core.panel import Marked, Table
from tunesmith.recipe import from_values
from tunesmith.stages import Stages


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
    parts = ("starting", "training", "evaluating", "saving", "measuring")
    assert all(found[f"seconds_{part}"] > 0 for part in parts)
    assert found["estimated_seconds"] == pytest.approx(sum(found[f"seconds_{part}"] for part in parts))
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
    temporary, kept = tmp_path / "temporary", tmp_path / "cache"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TUNESMITH_CACHE", str(kept))
    found = checked(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "rows.csv", "temporary"]
    assert not list(temporary.iterdir())
    # The rows that were read stay for the run; no examples are, for not all of them were encoded.
    assert [path.name for path in kept.iterdir() if "examples" in path.name] == []
    assert json.loads(json.dumps(found.as_json()))["updates"] == found.facts["updates"]


@pytest.mark.parametrize("steps", [1, 2, 500])
def test_short_and_long_runs_are_tried_out_alike(steps: int, tmp_path: Path) -> None:
    found = checked(tmp_path, train={"steps": steps}).facts
    assert found["updates"] == steps
    assert 0 < found["seconds_a_step"] <= found["seconds_training"] < found["estimated_seconds"]


def test_it_says_what_a_run_says_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tunesmith")
    checked(tmp_path, method="head_only", task={"name": "classify", "max_length": 12})
    said = "\n".join(caplog.messages)
    assert "The lowest 2 of 2 blocks don't train" in said
    # Of the miniature alone: how many of its few rows were cut, what its evaluations found.
    assert "are longer than the limit" not in said and "Stopped after" not in said


def test_what_a_run_would_refuse_is_refused(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    data = {"train": str(rows), "validation": None}
    with pytest.raises(RecipeError, match="no validation split"):
        check.check(from_values({"data": data, "model": "builtin:tiny-bert", "schedules": ["early_stop"]}))


def test_stages_are_added_up(tmp_path: Path) -> None:
    rows = str(toy.write_csv(tmp_path / "rows.csv"))
    stage = {"data": {"train": rows, "validation": 0.2, "test": None}, "train": {"device": "cpu", "steps": 2}}
    recipes = [from_values({"model": "builtin:tiny-bert", "task": task, **stage}) for task in ("fill", "classify")]
    found = check.check_all(Stages(recipes))
    one, two = (found.facts[f"{name} estimated_seconds"] for name in ("1-fill", "2-classify"))
    assert found.facts["estimated_seconds"] == pytest.approx(one + two)
    assert found.facts["estimated_peak_memory_bytes"] == found.facts["2-classify estimated_peak_memory_bytes"]


def test_the_whole_is_told_in_a_line() -> None:
    found = check.Checked([], {"estimated_seconds": 200.4, "estimated_peak_memory_bytes": 1_234_000_000})
    assert found.told() == (
        "The whole run, from the command to the report, takes about 3 min 20 s and 1.23 GB of memory."
    )


def test_the_process_began_before_now() -> None:
    assert 0 < time.time() - check.process_began() < 86_400
