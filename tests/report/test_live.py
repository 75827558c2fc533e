"""What a terminal shows of a run: figures, curves and notes, on wide and on narrow terminals."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tunesmith.report.live import View, line_of, picture


def step(number: int, **more: Any) -> dict[str, Any]:
    values = {"loss": 2.0 / number, "learning_rate": 1e-3, "gradient_norm": 1.5, "epoch": number / 50}
    return {"event": "step", "step": number, **values, "seconds": 5.0, "examples_per_second": 64.0, **more}


EVENTS: list[dict[str, Any]] = [
    {"event": "start", "step": 0, "total_steps": 100},
    *[step(number) for number in range(10, 60, 10)],
    {"event": "evaluation", "step": 25, "metrics": {"loss": 0.7, "accuracy": 0.25}},
    {"event": "evaluation", "step": 50, "metrics": {"loss": 0.5, "accuracy": 0.75}},
    {"event": "note", "text": "Cut [bold]3[/bold] rows.\x1b[31m"},
]


def shown(view: View, width: int = 120, height: int = 60, **more: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, height=height, **more).print(picture(view, width, height))
    return stream.getvalue()


def test_facts_and_the_time_left() -> None:
    view = View("mine", "running", EVENTS)
    # Five lines of ten updates and five seconds each; fifty updates are left.
    assert view.left == pytest.approx(25.0)
    found = view.facts()
    assert (found["step"], found["total_steps"], found["loss"]) == (50, 100, 0.04)
    assert found["validation"] == {"loss": 0.5, "accuracy": 0.75} and "peak_memory_bytes" not in found
    assert View("mine", "stopped", EVENTS).left is None and View("mine", "running", EVENTS[:1]).left is None
    memory = [*EVENTS, {"event": "memory", "step": 50, "peak_bytes": 2e9}, {"event": "end", "step": 50, "stop": "x"}]
    assert View("mine", "running", memory).facts()["peak_memory_bytes"] == 2e9
    assert View("mine", "running", memory).facts()["stop"] == "x"


@pytest.mark.parametrize("width", [60, 120])
def test_the_picture_keeps_to_its_width(width: int) -> None:
    text = shown(View("mine", "running", EVENTS, {"1-fill": "finished", "2-tag": "running"}), width)
    assert max(map(len, text.splitlines())) <= width and "\x1b" not in text
    curves = ("accuracy on validation, now 0.750", "loss, now 0.040", "learning rate, now", "gradient norm, now")
    others = ("mine: running", "1-fill: finished", "50 of 100", "25 s", "64", "[bold]3[/bold] rows.")
    assert [told for told in (*curves, *others) if told not in text] == []
    side_by_side = any("loss, now" in line and "accuracy" in line for line in text.splitlines())
    assert side_by_side == (width == 120)


def test_a_low_terminal_shows_fewer_curves_and_colours_are_left_out_where_none_are_wanted() -> None:
    low = shown(View("mine", "running", EVENTS), 60, 24)
    assert "loss, now" in low and "gradient norm, now" not in low
    assert ["10", "50"] in [line.split() for line in low.splitlines()]
    coloured = shown(View("mine", "running", EVENTS), 60, 24, force_terminal=True, color_system="standard")
    assert "\x1b[36m" in coloured
    plain = shown(View("mine", "running", EVENTS), 60, 24, force_terminal=True, no_color=True)
    assert "\x1b[36m" not in plain and "loss, now" in plain


def test_a_run_that_has_only_begun_shows_no_curve() -> None:
    text = shown(View("mine", "running", EVENTS[:2]))
    assert "10 of 100" in text and ", now" not in text
    assert "none yet" in shown(View("mine")) and "2 lines of the record" in shown(View("mine", unread=2))


def test_lines_for_what_is_no_terminal() -> None:
    view = View("mine", "running", EVENTS)
    assert line_of(EVENTS[5], view) == ("step 50/100  loss 0.040  rate 0.001  gradient 1.500  64 examples/s  25 s left")
    assert line_of(EVENTS[4], view) == "step 40/100  loss 0.050  rate 0.001  gradient 1.500  64 examples/s"
    assert line_of(EVENTS[6], view) == "validation after step 25: loss 0.700  accuracy 0.250"
    assert line_of({"event": "note", "text": "so"}, view) == "note: so"
    assert line_of({"event": "end", "step": 7, "stop": "no gain"}, view) == "stopped at step 7: no gain"
    assert line_of({"event": "start", "step": 0}, view) is None
