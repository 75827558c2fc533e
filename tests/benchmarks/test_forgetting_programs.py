"""The programs that measure forgetting, tried out on tiny models."""

from __future__ import annotations

import gzip
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
    for name, columns in {
        "sst2": ("text",),
        "trec": ("text",),
        "ag_news": ("text",),
        "mrpc": ("sentence1", "sentence2"),
    }.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for part, count in (("train", 40), ("test", 12)):
            rows = [
                {**{column: " ".join(toy.WORDS[(number + place) % 16] for place in range(3)) for column in columns},
                 "label": toy.CLASSES[number % 2]}
                for number in range(count)
            ]  # fmt: skip
            text = "".join(json.dumps(row) + "\n" for row in rows)
            if name == "ag_news":
                (folder / f"{part}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
            else:
                (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "data" / "tiny_shakespeare").mkdir()
    lines = "\n\n".join(" ".join(toy.WORDS[place:] + toy.WORDS[:place]) for place in range(16))
    (tmp_path / "data" / "tiny_shakespeare" / "all.txt").write_text(lines, encoding="utf-8")
    return tmp_path / "data"


def test_a_sequence_is_measured_and_told(program: Program, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgetting = import_module("forgetting")
    given = Namespace(
        data=data,
        tasks=["sst2", "ag_news", "mrpc"],
        rows=24,
        held_out=8,
        epochs=1.0,
        model="builtin:tiny-bert",
        made=False,
    )
    found = forgetting.one(given, "replay, share 0.25", 0)
    figures = {"average", "backward transfer", "forgetting", "forward transfer"}
    assert set(found) == {*figures, "newest", "seconds", "peak"}
    monkeypatch.setattr(sys, "argv", ["forgetting.py"])
    page = forgetting.lines(
        {forgetting.PLAIN: [found], "replay, share 0.25": [{**found, "newest": found["newest"] + 0.1}]}, given
    )
    row = next(line for line in page if line.startswith("| replay"))
    assert row.split("|")[7].strip() == "+10.0" and row.split("|")[4].strip() == "+0.0"


def test_protections_begin_with_the_second_stage(program: Program, tmp_path: Path) -> None:
    forgetting = import_module("forgetting")
    given = Namespace(tasks=forgetting.SEQUENCE, epochs=1.0, model="builtin:tiny-bert")
    stages = forgetting.recipe(tmp_path, forgetting.VARIANTS["distill, strength 1"], 0, given)["stages"]
    assert [bool(stage.get("regularizers")) for stage in stages] == [False, True, True, True]


def test_a_language_model_is_measured_on_both_texts(
    program: Program, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy.save(toy.prepared({"model": "builtin:tiny-llama", "task": {"name": "generate", "format": "text"}},
                                  rows=toy.rows_for(toy.prepared({}).recipe.task)), tmp_path / "stories")  # fmt: skip
    words = import_module("forgetting_words")
    monkeypatch.setattr(words, "LENGTH", 64)
    given = Namespace(data=data, words=200, stories=6, epochs=1.0, seeds=1, stories_model=model)
    files = words.write(given, tmp_path)
    found = words.measure(given, files, "replay, share 0.25", 0)
    assert set(found) == {f"{text} {when}" for text in ("stories", "shakespeare") for when in ("before", "after")} | {
        "seconds"
    }
    assert found["shakespeare after"] < found["shakespeare before"]
    assert words.line("replay", [found])[0] == "replay"
