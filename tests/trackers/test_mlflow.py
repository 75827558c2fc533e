"""MLflow: what its library is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trackers import fakes
from tunesmith.trackers.mlflow import Mlflow


def test_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, tracker = fakes.mlflow(monkeypatch), Mlflow(experiment="mine", uri="file:here")
    assert tracker.open(fakes.run(tmp_path)) == "the-id"
    tracker.numbers({"train/loss (a+b)": 0.5}, 10)
    tracker.text("notes", "a note", 10)
    tracker.summary({"task/test/accuracy": 0.9}, 10)
    tracker.file(tmp_path / "report.html")
    tracker.close(ended=True)
    assert fake.calls == [
        ("set_tracking_uri", ("file:here",)),
        ("set_experiment", ("mine",)),
        ("start_run", ({"run_id": None, "run_name": "runs-mine"},)),
        ("log_params", ({"method.name": "lora", "method.rank": "2", "schedules.0.name": "x"},)),
        # MLflow refuses names with other signs.
        ("log_metrics", ({"train/loss _a_b_": 0.5}, {"step": 10})),
        ("log_text", ("a note", "notes.txt")),
        ("log_metrics", ({"task/test/accuracy": 0.9}, {"step": 10})),
        ("log_artifact", (str(tmp_path / "report.html"),)),
        ("end_run", ("FINISHED",)),
    ]


def test_a_resumed_run_goes_on_with_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, tracker = fakes.mlflow(monkeypatch), Mlflow()
    tracker.open(fakes.run(tmp_path, "known"))
    tracker.close(ended=False)
    assert fake.of("start_run") == [({"run_id": "known", "run_name": "runs-mine"},)]
    assert fake.of("log_params") == [] and fake.of("end_run") == [("KILLED",)]
