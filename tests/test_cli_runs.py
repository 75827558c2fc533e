"""`report` of several runs, and `runs`, on the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tunesmith
from tests.report.rivals import write_rival
from tests.test_cli import Command, command
from tunesmith.core.errors import RunFolderError

__all__ = ["command"]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write_rival(tmp_path / "runs" / name, share) for name, share in (("poor", 0.6), ("good", 0.9))]


def test_two_runs_are_compared(
    command: Command, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = command("report", *folders)
    assert status == 0 and "good is better than poor" in " ".join(out.split()) and "report: compare.html" in out
    before = (tmp_path / "compare.html").read_bytes()
    status, _, err = command("report", *folders)
    assert status == 2 and "compare.html exists" in err and "--out" in err
    assert (tmp_path / "compare.html").read_bytes() == before
    status, out, _ = command("report", *folders, "--out", "other.html", "--json")
    found = json.loads(out)
    assert status == 0 and found["report"] == "other.html" and found["pairs"][0]["second"] == "good"
    status, _, err = command("report", folders[0], "--out", "one.html")
    assert status == 2 and "One run alone" in err and not (tmp_path / "one.html").exists()


def test_runs_of_a_folder(command: Command, folders: list[Path]) -> None:
    status, out, _ = command("runs", folders[0].parent, "--sort", "-value", "--json")
    assert status == 0 and [one["name"] for one in json.loads(out)] == ["good", "poor"]
    status, out, _ = command("runs", folders[0].parent, "--where", "train.learning_rate=2e-4", "--where", "name=poor")
    assert status == 0 and "1 run in" in out and "train.learning_rate" in out
    # Not on a terminal a run is one line, whatever its length.
    assert [line.split()[0] for line in out.splitlines() if line.strip()] == ["1", "name", "poor"]
    status, _, err = command("runs", folders[0].parent, "--where", "metod=lora")
    assert status == 2 and "Did you mean 'method'" in err
    status, _, err = command("runs", folders[0].parent / "none")
    assert status == 2 and "does not exist" in err


def test_from_python(folders: list[Path], tmp_path: Path) -> None:
    assert [one["name"] for one in tunesmith.runs(folders[0].parent, where={"train.seed": 0}, sort="value")] == [
        "poor",
        "good",
    ]
    found = tunesmith.compare(folders, out=tmp_path / "page.html")
    assert found["lead"].startswith("good has the best accuracy") and (tmp_path / "page.html").is_file()
    with pytest.raises(RunFolderError, match="exists"):
        tunesmith.compare(folders, out=tmp_path / "page.html")
