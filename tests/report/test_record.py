"""A run folder is read whole, in progress, or refused with the file's path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.core.errors import RunFolderError
from tunesmith.core.panel import Bars, Figure
from tunesmith.report.record import read


def test_a_finished_run(run_folder: Path) -> None:
    record = read(run_folder)
    assert record.evaluation is not None and record.data is not None
    assert record.evaluation.suites["task"].figures[0] == Figure("accuracy", 0.9131, low=0.8904, high=0.9312)
    assert isinstance(record.data[0], Bars)
    assert [event["step"] for event in record.of_kind("evaluation")] == [50, 100]


def test_an_empty_folder_is_a_run_that_has_just_begun(tmp_path: Path) -> None:
    record = read(tmp_path)
    assert (record.recipe, record.environment, record.events, record.data, record.evaluation) == (None,) * 5
    assert record.of_kind("step") == record.notes() == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist"):
        read(tmp_path / "nowhere")


def test_after_a_resume_the_later_line_of_a_step_counts(tmp_path: Path) -> None:
    lines = [{"event": "step", "step": step, "loss": loss} for step, loss in ((1, 5), (2, 4), (3, 9), (2, 3), (3, 2))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [event["loss"] for event in read(tmp_path).of_kind("step")] == [5, 3, 2]


def test_a_note_said_twice_is_kept_once(tmp_path: Path) -> None:
    lines = [{"event": "note", "text": text} for text in ("one", "two", "one")]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read(tmp_path).notes() == ["one", "two"]


def test_only_the_last_line_may_be_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"event": "step", "step": 1}\n\n{"event": "note", "text": "caf\xc3')
    assert len(read(tmp_path).of_kind("step")) == 1
    path.write_text('{"event": \n{"event": "end"}\n')
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl is damaged in line 1"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["environment.json", "data.json", "evaluation.json"])
@pytest.mark.parametrize("text", ['{"a": ', "[1]"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RunFolderError, match=f"{name} is damaged"):
        read(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        {"metric": "accuracy"},
        {"title": "t", "metric": "m", "suites": []},
        {"title": "t", "metric": "m", "suites": {"task": {"figures": [{"value": 1}], "panels": []}}},
        {"title": "t", "metric": "m", "suites": {"task": {"figures": [], "panels": [{"panel": "pie"}]}}},
        {"title": "t", "metric": "m", "suites": {"task": {"figures": [], "panels": [{"panel": "bars", "no": 1}]}}},
    ],
)
def test_an_evaluation_of_another_shape_is_refused(tmp_path: Path, value: object) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(value))
    with pytest.raises(RunFolderError, match=r"evaluation\.json is damaged"):
        read(tmp_path)
