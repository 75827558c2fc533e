"""How a training is shown: plain lines when no terminal listens, a bar when one does."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tunesmith import progress
from tunesmith.progress import Show


def step(number: int) -> dict[str, Any]:
    return {"event": "step", "step": number, "loss": 0.5, "examples_per_second": 100.0}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def shown(clock: list[float], began: int = 0) -> tuple[Show, io.StringIO]:
    stream = io.StringIO()
    show = Show(Console(file=stream, width=200))
    show({"event": "resume" if began else "start", "step": began, "total_steps": 100})
    return show, stream


def test_lines_come_every_ten_seconds_and_at_the_end(clock: list[float]) -> None:
    show, stream = shown(clock)
    for number in range(1, 101):
        clock[0] += 0.5
        show(step(number))
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["20/100", "40/100", "60/100", "80/100", "100/100"]
    assert lines[0] == "step 20/100  loss 0.5000  100 examples/s  40 s left"
    assert lines[-1].endswith("0 s left")


def test_the_time_left_is_that_of_this_process(clock: list[float]) -> None:
    # Resumed at 90: two steps took 20 s, eight are left.
    show, stream = shown(clock, began=90)
    clock[0] += 20
    show(step(92))
    assert stream.getvalue().strip().endswith("80 s left")


def test_evaluations_are_always_told(clock: list[float]) -> None:
    show, stream = shown(clock)
    show({"event": "evaluation", "step": 3, "metrics": {"loss": 0.25, "accuracy": 0.91239}})
    show({"event": "note", "text": "nothing to show"})
    assert stream.getvalue() == "validation after step 3: loss 0.25  accuracy 0.9124\n"


def test_a_metric_that_is_no_number_is_told(clock: list[float]) -> None:
    show, stream = shown(clock)
    show({"event": "evaluation", "step": 3, "metrics": {"pearson": float("nan")}})
    assert "pearson nan" in stream.getvalue()


def test_a_terminal_has_a_bar_that_is_taken_down() -> None:
    stream = io.StringIO()
    show = Show(Console(file=stream, force_terminal=True, width=120))
    show({"event": "start", "step": 0, "total_steps": 100})
    assert show._bar is not None
    show(step(50))
    task = show._bar.tasks[0]
    assert (task.completed, task.total, task.fields["told"]) == (50, 100, "loss 0.5000  100 examples/s")
    show({"event": "end", "step": 50})
    assert show._bar is None
    show.close()
