"""Looking on while a run trains: its record is followed as it grows, and nothing of it is touched."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from tunesmith import cli, watch
from tunesmith.core.errors import RunFolderError
from tunesmith.watch import Followed, Tail


def line(number: int) -> str:
    values = {"loss": 1.0 / number, "learning_rate": 1e-3, "gradient_norm": 1.5, "examples_per_second": 64.0}
    return json.dumps({"event": "step", "step": number, "seconds": 1.0, **values}) + "\n"


def a_run(folder: Path, *texts: str, old: bool = False, finished: bool = False) -> Path:
    """A run's folder; an old one was last written to long ago."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text("model: x\n")
    start = json.dumps({"event": "start", "step": 0, "total_steps": 10}) + "\n"
    (folder / "metrics.jsonl").write_text("".join([start, *texts]))
    if finished:
        (folder / "evaluation.json").write_text("{}")
    if old:
        for file in folder.iterdir():
            os.utime(file, (time.time() - 1000,) * 2)
    return folder


def add(run: Path, text: str) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(text)


def steps(tail: Tail) -> list[int]:
    return [event["step"] for event in tail.events]


def test_a_record_is_followed_and_a_half_written_line_waits(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", line(1), line(2)[:20])
    tail = Tail(run / "metrics.jsonl")
    assert [event["step"] for event in tail.more()] == [0, 1]
    assert tail.more() == []
    add(run, line(2)[20:] + line(3))
    assert [event["step"] for event in tail.more()] == [2, 3] and steps(tail) == [0, 1, 2, 3]
    add(run, "no json\n")
    assert tail.more() == [] and tail.unread == 1


def test_a_record_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", line(1), line(2), line(3))
    tail = Tail(run / "metrics.jsonl")
    tail.more()
    other = run / "other"
    other.write_text(line(1))
    other.replace(run / "metrics.jsonl")
    assert [event["step"] for event in tail.more()] == [1] and steps(tail) == [1]
    assert Tail(tmp_path / "none").more() == []


def test_states(tmp_path: Path) -> None:
    assert watch.state(a_run(tmp_path / "done", old=True, finished=True)) == "finished"
    assert watch.state(a_run(tmp_path / "fresh")) == "running"
    killed = a_run(tmp_path / "killed", line(1), old=True)
    assert watch.state(killed) == "stopped"
    # Long without a line, as in a long evaluation: its process still holds the lock.
    with FileLock(killed / ".lock"):
        assert watch.state(killed) == "running"
    assert watch.state(killed) == "stopped"


def test_of_a_folder_of_stages_the_running_one_is_shown(tmp_path: Path) -> None:
    a_run(tmp_path / "both" / "1-fill", line(9), old=True, finished=True)
    a_run(tmp_path / "both" / "2-classify", line(1), line(2))
    (tmp_path / "both" / "stages.yaml").write_text("stages: []\n")
    followed = Followed(tmp_path / "both")
    followed.look()
    assert followed.view.name.endswith("2-classify") and not followed.ended
    assert followed.view.others == {"1-fill": "finished", "2-classify": "running"}
    assert watch.facts(tmp_path / "both")["runs"]["1-fill"] == "finished"


def test_between_two_stages_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path / "both" / "1-fill", line(9), old=True, finished=True)
    followed = Followed(tmp_path / "both")
    followed.look()
    assert not followed.ended
    monkeypatch.setattr(watch, "BETWEEN", 0.0)
    assert followed.ended


def test_no_run_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist") as caught:
        watch.watch(tmp_path / "none", Console(file=io.StringIO()))
    assert "train" in caught.value.hint
    with pytest.raises(RunFolderError, match="holds no run"):
        watch.facts(tmp_path)


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that goes on whenever watching sleeps, and is finished then."""
    run = a_run(tmp_path / "run", line(1))
    acts: list[Callable[[], Any]] = [
        lambda: add(run, line(2)),
        lambda: (run / "evaluation.json").write_text("{}"),
    ]
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: acts.pop(0)())
    return run


def test_plain_lines_until_the_run_ends(growing: Path) -> None:
    stream = io.StringIO()
    watch.watch(growing, Console(file=stream, width=60))
    told = [text for text in stream.getvalue().splitlines() if text.startswith("step")]
    assert [text.split("  ")[0] for text in told] == ["step 1/10", "step 2/10"]
    assert stream.getvalue().endswith("finished\n") and "time left" not in stream.getvalue()


def test_a_terminal_shows_pictures_until_the_run_ends(growing: Path) -> None:
    stream = io.StringIO()
    watch.watch(growing, Console(file=stream, width=60, height=40, force_terminal=True))
    text = stream.getvalue()
    assert "1 of 10" in text and "2 of 10" in text and "finished" in text


def test_ctrl_c_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", stop)
    run, stream = a_run(tmp_path / "run", line(1)), io.StringIO()
    for terminal in (False, True):
        watch.watch(run, Console(file=stream, force_terminal=terminal))
    assert "step 1/10" in stream.getvalue()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / "run", line(1), line(2), line(3)[:9])
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert cli.main(["watch", str(run), "--once"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 10" in shown and "loss, now 0.500" in shown and "\x1b" not in shown
    assert cli.main(["watch", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert cli.main(["watch", str(tmp_path / "none")]) == 2
    assert "hint:" in capsys.readouterr().err
