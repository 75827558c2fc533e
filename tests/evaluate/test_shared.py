"""Rows that several runs answered, found by their line or by what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.core.errors import RunFolderError
from tunesmith.evaluate import shared
from tunesmith.tasks.classify import Classify
from tunesmith.tasks.generate import Generate


def task(names: str = "ab") -> Classify:
    found = Classify()
    found.learn({"label": name} for name in names)
    return found


def row(line: int, text: str, prediction: str, label: str = "a") -> dict[str, Any]:
    return {"text": text, "label": label, "line": line, "prediction": prediction, "confidence": 0.5}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_rows_of_one_file_are_known_by_their_line(tmp_path: Path) -> None:
    first = write(tmp_path / "1", [row(2, "x", "a"), row(3, "y", "b"), row(5, "z", "a", "b")])
    second = write(tmp_path / "2", [row(5, "z", "b", "b"), row(3, "y", "a")])
    found = shared.shared([task(), task()], [first, second], same_file=True)
    assert found.rows == 2 and not found.why
    assert [one.answers.tolist() for one in found.answered] == [[1, 0], [0, 1]]
    assert found.answered[0].truths.tolist() == [0, 1]
    assert found.answered[0].metrics(np.array([0, 0]))["accuracy"] == 0


def test_of_different_files_by_what_they_say(tmp_path: Path) -> None:
    first = write(tmp_path / "1", [row(2, "x", "a"), row(3, "x", "b")])
    second = write(tmp_path / "2", [row(7, "x", "b"), row(8, "x", "a"), row(9, "y", "a")])
    found = shared.shared([task(), task()], [first, second], same_file=False)
    # Of two equal rows the first is the first, the second the second.
    assert [one.answers.tolist() for one in found.answered] == [[0, 1], [1, 0]]


def test_classes_may_have_other_numbers_in_each_run_but_then_are_not_compared(tmp_path: Path) -> None:
    files = [write(tmp_path / name, [row(2, "x", "b", "b"), row(3, "y", "b", "b")]) for name in "12"]
    assert "other answers" in shared.shared([task(), task("0ab")], files, same_file=True).why


def test_too_few_shared_rows_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "1", [row(line, "x", "a") for line in range(2, 6)])
    second = write(tmp_path / "2", [row(line, "x", "a") for line in range(5, 9)])
    found = shared.shared([task(), task()], [first, second], same_file=True)
    assert not found.answered and "only 1 of 4 rows" in found.why and not found.barred


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    first = write(tmp_path / "1", [row(2, "x", "a")])
    assert "missing" in shared.shared([task(), task()], [first, tmp_path / "2"], same_file=True).why
    (tmp_path / "2").write_text('{"a": 1}\n{"b')
    with pytest.raises(RunFolderError, match="line 2"):
        shared.lines_of(tmp_path / "2")
    second = write(tmp_path / "2", [{"line": 2, "text": "x", "label": "a"}])
    assert "do not hold" in shared.shared([task(), task()], [first, second], same_file=True).why


def test_other_tokens_are_no_common_measure(tmp_path: Path) -> None:
    line = {"prompt": "x", "completion": "y", "line": 2, "prediction": None, "perplexity": 3.0, "cut": False}
    files = [write(tmp_path / str(count), [{**line, "tokens": count}]) for count in (4, 5)]
    found = shared.shared([Generate(), Generate()], files, same_file=True)
    assert found.barred and "other tokens" in found.why
