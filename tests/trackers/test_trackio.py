"""Trackio: what its library is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trackers import fakes
from tunesmith.trackers.trackio import Trackio


def test_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, tracker = fakes.trackio(monkeypatch), Trackio(space="me/here")
    known = tracker.open(fakes.run(tmp_path))
    ((begun,),) = fake.of("init")
    assert begun["name"] == known and known.startswith("runs-mine-") and begun["resume"] == "allow"
    assert (begun["project"], begun["space_id"], begun["config"]["method"]["rank"]) == ("tunesmith", "me/here", 2)
    tracker.numbers({"train/loss": 0.5}, 10)
    tracker.text("notes", "a note", 10)
    tracker.summary({"task/test/accuracy": 0.9}, 10)
    tracker.file(tmp_path / "report.html")
    tracker.close(ended=True)
    assert fake.calls[1:] == [
        ("log", ({"train/loss": 0.5}, {"step": 10})),
        ("log", ({"notes": "a note"}, {"step": 10})),
        ("log", ({"task/test/accuracy": 0.9}, {"step": 10})),
        ("log_artifact", (str(tmp_path / "report.html"), {"name": "report", "type": "report"})),
        ("finish", ()),
    ]


def test_a_resumed_run_goes_on_with_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fakes.trackio(monkeypatch)
    assert Trackio().open(fakes.run(tmp_path, "known")) == "known"
    assert fake.of("init")[0][0]["name"] == "known"
