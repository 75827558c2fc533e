"""Run folders that can't be written, disks that are full, and runs that were stopped."""

from __future__ import annotations

import errno
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from safetensors import SafetensorError

from tests.bad_input.case import ROWS, Desk, snapshot
from tunesmith import prepare
from tunesmith.models import artifact
from tunesmith.report import page
from tunesmith.train import checkpoint
from tunesmith.train.log import Log

LONG = ("--model", "builtin:tiny-bert", "--set", "train.steps=6", "--set", "train.checkpoint_every=1")
TENSORS = "tensors.safetensors"


@pytest.fixture
def rows(desk: Desk) -> Path:
    return desk.write("rows.csv", ROWS)


def train(desk: Desk) -> Any:
    return desk.run("train", "rows.csv", *LONG, "--out", "run")


def resumed(desk: Desk) -> None:
    """Assert that `resume` brings the run to its end."""
    ended = desk.run("resume", "run")
    assert ended.status == 0, ended.said
    desk.whole()


@contextmanager
def interrupted_at(update: int) -> Iterator[None]:
    """Send SIGINT to this process after so many updates."""
    whole, count = Log.update, 0

    def counted(log: Log, *arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == update:
            os.kill(os.getpid(), signal.SIGINT)
        whole(log, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "update", counted)
        yield


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse, as a full disk would, to write more than `size` bytes into one file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limited(patch: pytest.MonkeyPatch, module: Any, name: str, size: int, at: int = 1) -> None:
    """Let the call number `at` of a function, and all later ones, meet a full disk."""
    whole: Callable[..., Any] = getattr(module, name)
    calls = 0

    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < at:
            return whole(*arguments, **named)
        with largest_file(size):
            return whole(*arguments, **named)

    patch.setattr(module, name, called)


def stopped(desk: Desk) -> Path:
    """A run that was interrupted after its third update; returns its checkpoints, the older first."""
    with interrupted_at(3):
        ended = train(desk)
    assert ended.status == 130, ended.said
    return desk.folder / "run" / "checkpoints"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_folder_that_is_not_a_run(desk: Desk, rows: Path) -> None:
    desk.write("run/notes.txt", "mine")
    says = "run exists and is not a run: nothing in it is touched."
    desk.train_refused("rows.csv", says=says, hint="Give another folder with --out.")


def test_file_in_the_place_of_the_folder(desk: Desk, rows: Path) -> None:
    desk.refused("train", "rows.csv", *LONG, "--out", "rows.csv", says="rows.csv exists and is not a run")


def test_folder_that_holds_a_run(desk: Desk, finished: Path) -> None:
    desk.take(finished)
    desk.train_refused("rows.csv", says="The folder run holds a run already.", hint="tunesmith resume run")


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("rows.csv/run", "rows.csv/run could not be written: Not a directory."),
        ("x" * 300, "could not be written: File name too long."),
        ("", "exists and is not a run"),
    ],
)
def test_folder_that_can_never_be(desk: Desk, rows: Path, out: str, says: str) -> None:
    desk.refused("train", "rows.csv", *LONG, "--out", out, says=says, hint="--out")


def test_folder_that_may_not_be_written(desk: Desk, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever is root may write everywhere: the system's answer is put into its mouth.
    monkeypatch.setattr(os, "access", lambda path, mode, **_: False)
    says = "run could not be written: Permission denied."
    desk.train_refused("rows.csv", says=says, hint="Check that the folder exists and that you may write to it")


def test_folder_that_turns_read_only(desk: Desk, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tempfile.mkdtemp

    def refuse(*arguments: Any, **named: Any) -> str:
        if Path(str(named.get("dir", ""))).name == "checkpoints":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return whole(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", refuse)
        ended = train(desk)
    assert ended.status == 2, ended.said
    desk.checked(ended, "could not be written: Read-only file system.", "you may write to it")
    desk.tidy()
    resumed(desk)


def test_folder_that_is_locked(desk: Desk, rows: Path) -> None:
    stopped(desk)
    with FileLock(desk.folder / "run" / ".lock"):
        says = "Another process is writing to the run run."
        desk.refused("resume", "run", says=says, hint="Wait for it to end")
    resumed(desk)


def test_folder_that_another_process_takes_meanwhile(desk: Desk, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare.prepare

    def slow(*arguments: Any) -> Any:
        desk.write("run/theirs.txt", "theirs")
        return whole(*arguments)

    monkeypatch.setattr(prepare, "prepare", slow)
    ended = train(desk)
    assert ended.status == 2, ended.said
    desk.checked(ended, "run could not be written: Directory not empty.", "--out")
    assert [path.name for path in (desk.folder / "run").iterdir()] == ["theirs.txt"]


def test_disk_full_at_a_checkpoint(desk: Desk, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        limited(patch, checkpoint, "save", 100_000, at=3)
        ended = train(desk)
    assert ended.status == 2, ended.said
    desk.checked(ended, ["The disk is full: run/checkpoints/step-00000003", "could not be written"], "tunesmith resume")
    desk.tidy()
    assert sorted(path.name for path in (desk.folder / "run/checkpoints").iterdir()) == [
        "step-00000001",
        "step-00000002",
    ]
    resumed(desk)


def test_disk_full_in_the_words_of_safetensors(desk: Desk, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", refuse)
        ended = train(desk)
    assert ended.status == 2, ended.said
    desk.checked(ended, "The disk is full: run/checkpoints/step-00000001", "Free some space")
    desk.tidy()
    resumed(desk)


@pytest.mark.parametrize(("module", "name", "size"), [(artifact, "write", 50_000), (page, "write", 500_000)])
def test_disk_full_after_training(
    desk: Desk, rows: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, size: int
) -> None:
    with monkeypatch.context() as patch:
        limited(patch, module, name, size)
        ended = train(desk)
    assert ended.status == 2, ended.said
    desk.checked(ended, "The disk is full: run/", "tunesmith resume")
    desk.tidy()
    resumed(desk)


def test_disk_full_at_predictions(desk: Desk, finished: Path) -> None:
    desk.take(finished)
    assert desk.run("predict", "run", "rows.csv", "--out", "first.jsonl").status == 0
    before = snapshot(desk.folder)
    with largest_file(1000):
        ended = desk.run("predict", "run", "rows.csv", "--out", "answers.jsonl")
    assert ended.status == 2, ended.said
    desk.checked(ended, "The disk is full: answers.jsonl could not be written.", "Free some space")
    assert snapshot(desk.folder) == before


def test_interrupted_run_and_interrupted_resume(desk: Desk, rows: Path) -> None:
    with interrupted_at(2):
        ended = train(desk)
    assert ended.status == 130, ended.said
    assert "Stopping after this step; the run is saved first." in ended.said
    assert "The run is saved. Go on with: tunesmith resume run" in ended.said
    with interrupted_at(2):
        ended = desk.run("resume", "run")
    assert ended.status == 130, ended.said
    assert "Go on with: tunesmith resume run" in ended.said
    assert (desk.folder / "run/checkpoints/step-00000004").is_dir()
    desk.tidy()
    resumed(desk)


def test_unfinished_run_answers_nothing_yet(desk: Desk, rows: Path) -> None:
    stopped(desk)
    says = "The run run is not finished"
    desk.refused("predict", "run", "rows.csv", says=says, hint="tunesmith resume run")
    desk.refused("evaluate", "run", says=says, hint="tunesmith resume run")
    desk.refused("merge", "run", "--out", "merged", says=says, hint="tunesmith resume run")


def test_data_that_changed_since(desk: Desk, rows: Path) -> None:
    stopped(desk)
    rows.write_text(ROWS + "a fine thing more,good\n")
    says = f"The data changed since the run run began: {rows.resolve()}."
    desk.refused("resume", "run", says=says, hint="Put the file back as it was")


def test_data_that_is_gone(desk: Desk, rows: Path) -> None:
    stopped(desk)
    rows.unlink()
    desk.refused("resume", "run", says=f"There is no file {rows.resolve()}.")


def test_damaged_checkpoint_gives_way_to_the_one_before(desk: Desk, rows: Path) -> None:
    checkpoints = stopped(desk)
    damage(checkpoints / "step-00000003" / TENSORS)
    ended = desk.run("resume", "run")
    assert ended.status == 0, ended.said
    says = [f"step-00000003 is damaged ({TENSORS} is not as it was written)", "the one before it is used."]
    desk.checked(ended, says)
    desk.whole()


def test_all_checkpoints_damaged(desk: Desk, rows: Path) -> None:
    checkpoints = stopped(desk)
    damage(checkpoints / "step-00000003" / TENSORS)
    (checkpoints / "step-00000002" / "state.json").unlink()
    says = [
        "No checkpoint in run/checkpoints is whole:",
        f"step-00000003: {TENSORS} is not as it was written",
        "step-00000002: ",
        "state.json",
    ]
    desk.refused("resume", "run", says=says, hint="Start the run again in a new folder.")


def test_damaged_environment(desk: Desk, rows: Path) -> None:
    stopped(desk)
    (desk.folder / "run/environment.json").write_text("{}")
    desk.refused("resume", "run", says="The file run/environment.json is damaged: KeyError('data').")
