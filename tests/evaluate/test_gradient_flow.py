"""How gradients flowed: the picture and its numbers, from a record by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.panel import Heatmap, Table
from tunesmith.evaluate import gradient_flow


def step(number: int, **gradients: float | None) -> dict[str, Any]:
    return {"event": "step", "step": number, "gradient_norm": 5.0, "gradients": gradients}


def written(folder: Path, *found: dict[str, Any]) -> Path:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in found))
    return path


def test_shares_gaps_and_what_was_frozen(tmp_path: Path) -> None:
    record = written(
        tmp_path,
        {"event": "start", "step": 0},
        step(10, embeddings=None, block=None, head=5.0),
        step(20, embeddings=None, block=3.0, head=4.0),
        {"event": "step", "step": 25, "gradient_norm": 1.0},
        step(30, embeddings=None, block=4.0, head=3.0),
    )
    picture, numbers = gradient_flow.panels(record)
    assert isinstance(picture, Heatmap) and isinstance(numbers, Table)
    assert (picture.rows, picture.columns) == (["block", "head"], ["10", "20", "30"])
    assert picture.values == [[None, 0.6, 0.8], [1.0, 0.8, 0.6]]
    assert "Frozen throughout: embeddings." in picture.note
    assert numbers.rows == [
        ["embeddings", "frozen", None, None, None],
        ["block", "2 of 3 times", 3.0, 3.5, 4.0],
        ["head", "always", 5.0, 4.0, 3.0],
    ]


def test_many_steps_are_thinned_out(tmp_path: Path) -> None:
    picture, _ = gradient_flow.panels(written(tmp_path, *[step(number, head=5.0) for number in range(1, 101)]))
    assert isinstance(picture, Heatmap)
    assert len(picture.columns) == 50 and picture.columns[:2] == ["1", "3"]
    assert "No place was frozen throughout." in picture.note


@pytest.mark.parametrize("there", [True, False])
def test_a_record_without_gradients_says_so(there: bool, tmp_path: Path) -> None:
    record = written(tmp_path, {"event": "start", "step": 0}) if there else tmp_path / "metrics.jsonl"
    (panel,) = gradient_flow.panels(record)
    assert isinstance(panel, Table) and "tells no gradients" in str(panel.rows)
