"""The record: means between lines, whole lines alone, nothing that a resumed run writes again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import RunFolderError, UserError
from tunesmith.train.log import Log, lines


def test_a_step_is_the_mean_since_the_last_line(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    log = Log(tmp_path / "metrics.jsonl", seen.append)
    log.update({"task": 1.0, "l2_sp": 0.5}, 8)
    log.update({"task": 3.0, "l2_sp": 0.0}, 4)
    log.step(step=2)
    log.update({"task": 5.0}, 8)
    log.step(step=3)
    first, second = lines(tmp_path / "metrics.jsonl")
    assert first["losses"] == {"task": 2.0, "l2_sp": 0.25} and first["loss"] == 2.25 and first["step"] == 2
    assert second["losses"] == {"task": 5.0}
    assert seen == [first, second]


def test_the_rate_counts_examples_and_the_time_of_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    log = Log(tmp_path / "metrics.jsonl")
    now[0] = 10
    log.restart()
    log.update({"task": 1.0}, 6)
    now[0] = 11
    with log.paused("evaluations"):
        now[0] = 100
    now[0] = 101
    log.step(step=1)
    line = lines(log.path)[0]
    assert (line["examples"], line["seconds"], line["examples_per_second"]) == (6, 2.0, 3.0)
    assert log.aside == {"evaluations": 89.0}


def test_what_json_has_not_is_null(tmp_path: Path) -> None:
    log = Log(tmp_path / "metrics.jsonl")
    log.write("evaluation", metrics={"loss": math.nan, "r2": -math.inf, "rmse": 1.0}, values=[math.inf])
    assert "NaN" not in log.path.read_text()
    assert lines(log.path) == [
        {"event": "evaluation", "metrics": {"loss": None, "r2": None, "rmse": 1.0}, "values": [None]}
    ]


def test_a_last_line_that_was_cut_is_passed_over(tmp_path: Path) -> None:
    log = Log(tmp_path / "metrics.jsonl")
    log.write("note", text="a line separator \u2028 and \x85 ends no line of JSON")
    log.write("note", text="é")
    whole = lines(log.path)
    assert len(whole) == 2
    content = log.path.read_bytes()
    for end in range(content.index(b"\n") + 2, len(content) - 1):
        log.path.write_bytes(content[:end])
        assert lines(log.path) == whole[:1]


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "start"}\n{"event": "st\n{"event": "end"}\n')
    with pytest.raises(UserError, match="damaged in line 2"):
        lines(path)


def test_lines_after_a_step_are_forgotten(tmp_path: Path) -> None:
    log = Log(tmp_path / "metrics.jsonl")
    log.write("start", step=0)
    for step in (2, 4, 6):
        log.write("step", step=step)
    log.write("note", text="kept: it has no step")
    log.write("end", step=4)
    with log.path.open("a") as stream:
        stream.write('{"event": "st')
    log.forget_after(4)
    assert [(line["event"], line.get("step")) for line in lines(log.path)] == [
        ("start", 0), ("step", 2), ("step", 4), ("note", None),
    ]  # fmt: skip
    assert log.path.read_bytes().endswith(b"}\n")
    log.write("resume", step=4)
    assert lines(log.path)[-1]["event"] == "resume"


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    log = Log(tmp_path / "gone" / "metrics.jsonl")
    log.forget_after(0)
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl could not be written"):
        log.write("start")


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    log = Log(tmp_path / "metrics.jsonl")
    log.write("step", loss=0.1 + 0.2, rate=5e-324)
    log.forget_after(0)
    assert lines(log.path)[0] == {"event": "step", "loss": 0.1 + 0.2, "rate": 5e-324}
    assert json.loads(log.path.read_text()) == lines(log.path)[0]
