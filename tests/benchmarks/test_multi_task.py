"""The program that compares tasks together with tasks alone, tried out on a tiny model."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests import toy

Program = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of made data sets, named and laid out as the real ones."""
    for name in ("sst2", "stsb", "trec"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for part, count in (("train", 24), ("test", 12)):
            text = ""
            for number in range(count):
                words = " ".join(toy.WORDS[(number + place) % 16] for place in range(3))
                row: dict[str, Any] = {"text": f"{words} {number}", "label": toy.CLASSES[number % 2]}
                if name == "stsb":
                    row = {"sentence1": f"{words} {number}", "sentence2": words, "score": number % 5}
                text += json.dumps(row) + "\n"
            (tmp_path / "data" / name / f"{part}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path / "data"


def test_alone_and_together_are_measured_and_told(
    program: Program, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multi_task = import_module("multi_task")
    given = Namespace(
        data=data, rows=16, epochs=1.0, model="builtin:tiny-bert", made=False, sampling="uniform", seeds=1
    )
    together = multi_task.run(given, ["sst2", "stsb", "trec"], 0)
    assert {"sst2", "stsb", "trec", "whole", "training", "peak"} == set(together)
    alone = {name: [{**together, name: together[name] - 0.1}] for name in multi_task.TASKS}
    monkeypatch.setattr(sys, "argv", ["multi_task.py"])
    page = multi_task.lines({**alone, "together": [together]}, given)
    row = next(line for line in page if line.startswith("| trec"))
    assert row.split("|")[5].strip() == "+10.0"
    assert (
        next(line for line in page if line.startswith("| seconds, trainings")).split("|")[4].strip().startswith("0.33")
    )


def test_an_interval_by_hand(program: Program) -> None:
    tables = import_module("pairs.tables")
    assert tables.interval([0.5], 100) == "50.0"
    # Of three values with a deviation of 1, the half width is 4.303 / sqrt(3).
    assert tables.interval([1.0, 2.0, 3.0]) == "2.0 ± 2.5"
