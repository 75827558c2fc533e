"""The program that compares speeds of prediction, tried out on a tiny model: what it runs, and the page it writes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunesmith.cli import app

pytestmark = pytest.mark.filterwarnings("ignore")


def in_process(command: list[str], cache: str) -> tuple[str, float]:
    """What a process would say; the sides take two seconds and four."""
    if command[1] == "-m":
        done = CliRunner().invoke(app, command[3:])
        assert done.exit_code == 0, done.output
        return done.output, 2.0
    assert Path(command[1]).name == "predict_pipeline.py"
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        file, model, out, batch, kind, *rest = command[2:]
        count = int(rest[0]) if rest else None
        import_module("peers.predict_pipeline").main(file, model, out, int(batch), kind, count)
    return told.getvalue(), 4.0


def test_both_sides_answer_the_same_rows(
    program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = import_module("predict")
    monkeypatch.setattr(made, "child", in_process)
    monkeypatch.setattr(made, "BATCHES", (1, 4))
    monkeypatch.setattr(made, "STEPS", 1)
    answered: list[tuple[list[str], float]] = []

    def same(self: Any, turn: int) -> float:
        lines = [json.loads(line) for line in (self.folder / f"ours-{turn}.jsonl").read_text().splitlines()]
        answered.append(([line["text"] for line in lines], original(self, turn)))
        return answered[-1][1]

    original = made.Sides.same
    monkeypatch.setattr(made.Sides, "same", same)
    page = tmp_path / "predict.md"
    program(
        "predict", "--made", "--model", "builtin:tiny-bert", "--rows", "70", "--short", "6", "--pairs", "1",
        "--out", str(page),
    )  # fmt: skip
    texts, share = answered[0]
    assert texts == [row["text"] for row in import_module("pairs.data").made("classify", 70)] and share == 100.0
    told = page.read_text()
    # 70 rows in 2 seconds and in 4.
    assert "| 70 | 35.0 (35.0 to 35.0) | 17.5 (17.5 to 17.5) | 2.00x (2.00 to 2.00) | at least 2.0x |" in told
    tries = [line.split(" | ")[1:] for line in told.splitlines() if line.startswith(("| float32", "| bfloat16"))]
    assert len(tries) == 2
    best = max(float(cell.rstrip(" |")) for cells in tries for cell in cells)
    named = told.split("batches of ")[1].split(",")[0]
    batch, kind = named.split(" and ")
    assert float(tries[made.TYPES.index(kind)][(1, 4).index(int(batch))].rstrip(" |")) == best
