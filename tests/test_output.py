"""What a command prints: one JSON object, or a line."""

from __future__ import annotations

import json

import pytest

from tunesmith.output import result


def test_json_or_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    result({"é": 1}, "told", as_json=False)
    assert capsys.readouterr().out == "told\n"
    result({"é": 1}, "told", as_json=True)
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"é": 1} and "é" in shown
