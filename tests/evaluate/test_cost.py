"""What a run cost: from its record, from the disk, and from the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tests.evaluate import suites
from tunesmith import measure
from tunesmith.core.panel import Table
from tunesmith.core.rows import each
from tunesmith.evaluate import cost
from tunesmith.evaluate.cost import Cost


def write(folder: Path, *more: dict[str, Any]) -> Path:
    events = [
        {"event": "start", "step": 0, "trained_parameters": 7},
        {"event": "step", "step": 1, "seconds": 2.0, "examples": 8},
        {"event": "step", "step": 2, "seconds": 3.0, "examples": 12},
        {"event": "end", "step": 2, "aside": {"evaluations": 1.5}},
        {"event": "memory", "peak_bytes": 1000},
        *more,
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "one.bin").write_bytes(b"x" * 100)
    (folder / "model" / "deep" / "two.bin").write_bytes(b"x" * 20)
    return folder


def test_what_the_record_and_the_disk_tell(tmp_path: Path) -> None:
    toyed = toy.prepared({}, count=8)
    result = Cost(answers=2).measure(suites.finished(toyed, folder=write(tmp_path)))
    found = {one.name: one.value for one in result.figures}
    assert found["trained_parameters"] == 7
    assert found["parameters"] == sum(parameter.numel() for parameter in toyed.backbone.model.parameters())
    assert found["peak_memory_bytes"] == 1000 and found["bytes_on_disk"] == 120
    assert found["examples_per_second"] == 4.0
    assert (found["seconds_of_updates"], found["seconds_of_evaluations"]) == (5.0, 1.5)
    tokens = [len(toyed.backbone.tokenizer(row["text"])["input_ids"]) for row in each(toyed.batches.rows)]
    assert found["tokens_per_second"] == pytest.approx(4.0 * sum(tokens) / len(tokens))
    for batch in (1, 32):
        assert 0 < found[f"latency_ms_of_{batch}"] <= found[f"latency_ms_of_{batch}_90th"]
    (table,) = result.panels
    assert isinstance(table, Table) and "Latency is rough" in table.note and "resumed" not in table.note


def test_what_is_not_known_is_told(tmp_path: Path) -> None:
    toyed = toy.prepared({}, count=8)
    result = Cost(answers=0).measure(suites.finished(toyed, folder=None))
    assert [one.name for one in result.figures] == ["parameters"]
    note = result.panels[0].note
    assert "record is not at hand" in note and "Latency was not measured" in note
    again = suites.finished(toyed, folder=write(tmp_path, {"event": "resume", "step": 1}), train=lambda: None)
    note = Cost(answers=0).measure(again).panels[0].note
    assert "since the run was resumed" in note and "Tokens a second are not known" in note


def test_the_first_answers_are_not_timed_and_the_clock_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], [0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def act() -> None:
        calls[0] += 1
        now[0] += 100.0 if calls[0] <= cost.WARM else 4.0

    assert cost.timed(act, 2).tolist() == [4.0, 4.0]
    assert cost.timed(act, 20).tolist() == [4.0, 4.0, 4.0]  # ten seconds are over


def test_all_three_on_a_finished_run(full_run: Path, tmp_path: Path) -> None:
    found = measure.again(full_run, toy.write_csv(tmp_path / "rows.csv", 12), ["cost", "drift", "retention"])["suites"]
    assert not any("failed" in suite for suite in found.values())
    figures = {one["name"]: one["value"] for one in found["cost"]["figures"]}
    assert figures["trained_parameters"] > 0 and figures["bytes_on_disk"] > 0 and "seconds_of_evaluations" in figures
    assert any(one["name"] == "retention" for one in found["retention"]["figures"])
