"""Weights & Biases: what its library is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trackers import fakes
from tunesmith.trackers.wandb import Wandb


def test_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, tracker = fakes.wandb(monkeypatch), Wandb(project="mine", mode="offline")
    known = tracker.open(fakes.run(tmp_path))
    ((begun,),) = fake.of("init")
    assert begun["id"] == known and len(known) == 8 and begun["resume"] == "allow"
    assert (begun["project"], begun["name"], begun["mode"]) == ("mine", "runs-mine", "offline")
    assert begun["config"]["method"] == {"name": "lora", "rank": 2} and begun["dir"] == str(tmp_path)
    tracker.numbers({"train/loss": 0.5}, 10)
    tracker.text("notes", "a note", 10)
    tracker.summary({"task/test/accuracy": 0.9}, 10)
    tracker.file(tmp_path / "report.html")
    tracker.close(ended=True)
    assert fake.calls[1:] == [
        ("log", ({"train/loss": 0.5}, {"step": 10})),
        ("update", ({"notes": "a note"},)),
        ("update", ({"task/test/accuracy": 0.9},)),
        ("log_artifact", (str(tmp_path / "report.html"), {"name": "report-the-id", "type": "report"})),
        ("finish", ({"exit_code": 0},)),
    ]


def test_a_resumed_run_goes_on_with_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, tracker = fakes.wandb(monkeypatch), Wandb()
    assert tracker.open(fakes.run(tmp_path, "known")) == "known"
    tracker.close(ended=False)
    assert fake.of("init")[0][0]["id"] == "known" and fake.of("finish") == [({"exit_code": 1},)]
