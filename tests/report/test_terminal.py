"""The last lines of a run on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from tunesmith.core.panel import Figure, Result
from tunesmith.report.page import write
from tunesmith.report.terminal import summary


def printed(run_folder: Path, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(summary(run_folder))
    return capture.get()


def test_a_finished_run(run_folder: Path) -> None:
    write(run_folder)
    text = printed(run_folder)
    assert "classify: text -> intent" in text
    assert [line.split() for line in text.splitlines() if line.startswith("accuracy on test")] == [
        ["accuracy", "on", "test", "0.913", "0.890", "to", "0.931"]
    ]
    assert "linear model on word counts" in text
    lines = [" ".join(line.split()) for line in printed(run_folder, width=200).splitlines()]
    assert "✕ Forgot much retention score 0.400 (0.300 to 0.500)" in lines
    judged = [line[0] for line in lines if line[:2] in ("✓ ", "~ ", "✕ ", "? ")]
    assert judged == ["✓", "~", "✕", "✓", "?"]


def test_paths_are_whole_however_narrow_the_terminal(run_folder: Path) -> None:
    path = write(run_folder)
    assert str(path) in printed(run_folder, width=200)
    narrow = "".join(line[8:].rstrip() for line in printed(run_folder, width=40).splitlines())
    assert str(path) in narrow and str(run_folder / "model") in narrow


def test_an_unfinished_run_names_only_what_is_there(tmp_path: Path) -> None:
    text = printed(tmp_path)
    assert "was not measured" in text and "report" not in text and "model" not in text


def test_texts_neither_style_nor_steer_the_terminal(tmp_path: Path) -> None:
    figures = Result([Figure("f1", 0.5), Figure("f1", 0.4, subject="[red]\x1b[2Jrival")]).as_json()
    evaluation = {"title": "[bold]t", "metric": "f1", "suites": {"task": figures}}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    text = printed(tmp_path)
    assert "[bold]t" in text and "[red][2Jrival" in text and "\x1b[2J" not in text
