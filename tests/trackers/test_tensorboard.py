"""TensorBoard: what torch's writer is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trackers import fakes
from tunesmith.trackers.tensorboard import Tensorboard


def test_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, tracker = fakes.tensorboard(monkeypatch), Tensorboard()
    known = tracker.open(fakes.run(tmp_path))
    assert known == str(tmp_path / "tensorboard") and fake.of("writer") == [(known,)]
    ((name, text, step),) = fake.of("add_text")
    assert (name, step) == ("recipe", 0) and text.startswith("    method:\n      ")
    tracker.numbers({"train/loss": 0.5}, 10)
    tracker.text("notes", "one\ntwo", 10)
    tracker.summary({"task/test/accuracy": 0.9}, 12)
    tracker.close(ended=True)
    assert fake.of("add_scalar") == [("train/loss", 0.5, 10), ("task/test/accuracy", 0.9, 12)]
    assert fake.of("add_text")[-1] == ("notes", "    one\n    two\n", 10) and fake.calls[-1] == ("close", ())


def test_a_resumed_run_goes_on_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fakes.tensorboard(monkeypatch)
    assert Tensorboard(folder="all").open(fakes.run(tmp_path)) == str(Path("all") / "runs-mine")
    assert Tensorboard().open(fakes.run(tmp_path, "known")) == "known"
    assert fake.of("writer")[-1] == ("known",) and len(fake.of("add_text")) == 1
