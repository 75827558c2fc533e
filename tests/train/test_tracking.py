"""What trackers are told: all that the record says, once, whatever happens to them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tests.trackers import fakes
from tunesmith import run as runs
from tunesmith.core.files import read_json
from tunesmith.core.tracker import Tracked, Tracker
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt
from tunesmith.recipe import Recipe, from_values
from tunesmith.train import tracking
from tunesmith.train.log import Log, lines
from tunesmith.train.tracking import Tracking, tracked


class Kept(Tracker):
    """Keeps what it is told, and fails where it is to."""

    fails: bool = False
    _told: list[Any] = []  # noqa: RUF012 - pydantic copies it for each

    def open(self, run: Tracked) -> str:
        self._told.append(("open", run.id))
        return run.id or "the-id"

    def numbers(self, values: Any, step: int) -> None:
        torch.rand(1)
        if self.fails:
            raise ConnectionError("no network")
        self._told.append((step, dict(values)))

    def text(self, name: str, text: str, step: int) -> None:
        self._told.append((step, name, text))

    def file(self, path: Path) -> None:
        self._told.append(path.name)

    def close(self, ended: bool) -> None:
        self._told.append(("close", ended))


EVALUATION: dict[str, Any] = {
    "suites": {
        "task": {
            "figures": [
                {"name": "accuracy", "split": "test", "subject": "model", "value": 0.5, "low": 0.25, "high": None},
                {"name": "accuracy", "split": "test", "subject": "constant", "value": 0.25, "low": None, "high": None},
            ]
        }
    },
    "cost": {"seconds": 2, "device": "cpu"},
}


def test_lines_become_numbers_and_texts() -> None:
    step = {"event": "step", "step": 10, "loss": 0.5, "losses": {"a": 0.25}, "gradients": {"head": None, "block 1": 2}}
    assert tracking.values(step) == ({"train/loss": 0.5, "train/losses/a": 0.25, "train/gradients/block 1": 2.0}, {})
    metrics = {"f1": float("nan"), "loss": 1}
    evaluation = {"event": "evaluation", "step": 10, "split": "validation", "epoch": 1, "metrics": metrics}
    assert tracking.values(evaluation) == ({"validation/loss": 1.0}, {})
    found = {"event": "found", "step": 10, "part": "soup", "figures": [], "panels": [{"panel": "table"}]}
    assert tracking.values(found) == ({}, {"found/soup/panels": '[{"panel": "table"}]'})
    assert tracking.values({"event": "end", "step": 3, "stop": "enough", "aside": {"parts": 1.5}}) == (
        {"end/aside/parts": 1.5}, {"end/stop": "enough"},
    )  # fmt: skip


def test_figures_have_their_intervals_and_baselines() -> None:
    expected = {
        "cost/seconds": 2.0, "task/test/accuracy": 0.5, "task/test/accuracy low": 0.25,
        "task/test/accuracy of constant": 0.25,
    }  # fmt: skip
    assert tracking.figures(EVALUATION) == expected
    assert not any(other.startswith(f"{name}/") for name in expected for other in expected)
    assert tracking.figures(EVALUATION, "mood") == {f"mood/{name}": value for name, value in expected.items()}


def test_all_is_told_in_its_order_and_no_number_is_drawn(tmp_path: Path) -> None:
    tracker, seen = Kept(), list[dict[str, Any]]()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with tracked([tracker], tmp_path, {}, seen.append) as told:
        log = Log(tmp_path / "metrics.jsonl", told)
        log.write("start", step=0, total_steps=4)
        log.write("end", step=4, stop="")
        log.write("note", text="one")
        told.finish({"": EVALUATION}, tmp_path / "report.html")
    assert torch.equal(torch.rand(1), expected)
    assert [line["event"] for line in seen] == ["start", "end", "note"]
    summary = tracking.figures(EVALUATION)
    assert tracker._told == [
        ("open", ""), (0, {"start/total_steps": 4.0}), (4, "notes", "one"), (4, summary), "report.html",
        ("close", True),
    ]  # fmt: skip


def test_what_was_told_before_a_resume_is_not_told_again(tmp_path: Path) -> None:
    def part(steps: range, killed: bool) -> list[Any]:
        tracker = Kept()
        with tracked([tracker], tmp_path, {}, None) as told:
            log = Log(tmp_path / "metrics.jsonl", told)
            log.forget_after(steps.start)
            for step in steps:
                log.write("step", step=step + 1, loss=1.0)
            if not killed:
                told.finish({"": EVALUATION}, tmp_path / "report.html")
        return [step for step, *_ in tracker._told if isinstance(step, int)]

    assert part(range(0, 3), True) == [1, 2, 3]
    # Killed again before it was as far as the first time.
    assert part(range(1, 2), True) == []
    assert part(range(1, 5), False) == [4, 5, 5]
    assert read_json(tmp_path / "trackers.json") == {"ids": {"kept": "the-id"}, "told": {"step": 3}}


def test_one_that_fails_is_said_once_counted_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tunesmith")
    bad, good = Kept(fails=True), Kept()
    with tracked([bad, good], tmp_path, {}, None) as told:
        for step in range(1, 6):
            told({"event": "step", "step": step, "loss": 1.0})
    assert [step for step, *_ in good._told if isinstance(step, int)] == [1, 2, 3, 4, 5]
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "The tracker 'kept' failed, and the run goes on: ConnectionError: no network"
    # Opened, three times failed, then two lines and the end that it was not asked about.
    assert said[1].startswith("The tracker 'kept' failed 6 of 7 times; what it was not told stands in ")
    assert len(said) == 2 and bad._told == [("open", "")]


def test_one_that_does_not_open_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kept, "open", lambda self, run: 1 / 0)
    tracker = Kept()
    told = Tracking([tracker, tracker], Tracked("x", tmp_path, {}))
    told.begin()
    told({"event": "step", "step": 1, "loss": 1.0})
    told.close()
    assert tracker._told == [] and read_json(tmp_path / "trackers.json")["ids"] == {}


def test_one_that_opens_after_a_resume_alone_is_told_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(steps: range) -> list[int]:
        tracker = Kept()
        with tracked([tracker], tmp_path, {}, None) as told:
            log = Log(tmp_path / "metrics.jsonl", told)
            log.forget_after(steps.start)
            for step in steps:
                log.write("step", step=step + 1, loss=1.0)
        return [step for step, *_ in tracker._told if isinstance(step, int)]

    with monkeypatch.context() as patch:
        patch.setattr(Kept, "open", lambda self, run: 1 / 0)
        assert part(range(0, 3)) == []
    assert part(range(2, 5)) == [1, 2, 3, 4, 5]


def recipe(rows: Path, **values: Any) -> Recipe:
    train = {"steps": 4, "batch_size": 4, "device": "cpu", "precision": "float32", "log_every": 1}
    return from_values(
        {"model": "builtin:tiny-bert", "data": {"train": str(rows), "validation": 0.2}, "train": train, **values}
    )


def test_a_run_that_is_resumed_is_tracked_once_and_trains_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    rows, fake = toy.write_csv(tmp_path / "rows.csv"), fakes.wandb(monkeypatch)
    plain = runs.start(recipe(rows), tmp_path / "plain")
    assert fake.calls == []  # nothing is told to whom the recipe does not name
    asked = iter([False, True])
    monkeypatch.setattr(Interrupt, "asked", lambda self: next(asked, False))
    one = runs.start(recipe(rows, track=["wandb"]), tmp_path / "one")
    assert not one.finished and fake.of("finish") == [({"exit_code": 1},)]
    assert runs.resume(one.folder).finished
    first, again = (call[0] for call in fake.of("init"))
    assert first["id"] == again["id"] and first["config"]["track"][0]["name"] == "wandb"
    steps = [given[-1]["step"] for given in fake.of("log") if "train/loss" in given[0]]
    assert steps == [1, 2, 3, 4]
    summary = {name: value for (given,) in fake.of("update") for name, value in given.items()}
    assert "notes" in summary and "task/validation/accuracy" in summary
    assert fake.of("log_artifact")[0][0] == str(one.folder / "report.html")
    assert fake.of("finish")[-1] == ({"exit_code": 0},)
    first, second = (lines(run.folder / "metrics.jsonl") for run in (plain, one))
    losses = [line["loss"] for line in first if line["event"] == "step"]
    assert losses == [line["loss"] for line in second if line["event"] == "step"] and len(losses) == 4
    assert not (plain.folder / "trackers.json").exists()
