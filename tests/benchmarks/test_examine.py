"""The program that examines good, bad and over-trained models, tried out on a tiny one."""

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
def given(tmp_path: Path, program: Program) -> Namespace:
    """Made data sets, named and laid out as the real ones."""
    for name, parts in {
        "sst2": ("train.jsonl", "test.jsonl"),
        "amazon_books_kitchen": ("books.jsonl.gz", "kitchen.jsonl"),
        "clinc150": ("train.jsonl.gz", "dev.jsonl", "test.jsonl"),
    }.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for place, part in enumerate(parts):
            labels = [*toy.CLASSES[:2], *(["oos"] if name == "clinc150" else [])]
            rows = [
                {"text": " ".join([*toy.WORDS[n % 13 : n % 13 + 3], f"{place}{n}"]), "label": labels[n % len(labels)]}
                for n in range(60)
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows).encode()
            (folder / part).write_bytes(gzip.compress(text) if part.endswith(".gz") else text)
    return Namespace(
        data=tmp_path / "data", rows=24, model="builtin:tiny-bert", causal="none", reports=tmp_path / "kept"
    )


def test_a_case_is_measured_and_told(given: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    examine = import_module("examine")
    found = examine.one(given, "intents, and none")
    assert not found["failed"] and {"auroc", "accuracy"} <= {one["name"] for one in found["figures"]}
    assert (given.reports / "intents-and-none.html").read_bytes()[:15].lower() == b"<!doctype html>"
    monkeypatch.setattr(sys, "argv", ["examine.py"])
    page = examine.lines({"intents, and none": found}, given)
    assert any(line.startswith("| intents, and none | learned |") for line in page)
    assert any(line.startswith("| intents, and none | ood | auroc |") for line in page)
    assert page[-1] == "No suite failed."


def test_labels_are_shuffled_and_rates_multiplied(given: Namespace, tmp_path: Path) -> None:
    examine = import_module("examine")
    labels = {}
    for name in ("full training", "shuffled labels", "over-trained"):
        folder = tmp_path / name
        folder.mkdir()
        recipe = examine.CASES[name](given, folder)
        labels[name] = [json.loads(line)["label"] for line in (folder / "train.jsonl").read_text().splitlines()]
    assert labels["shuffled labels"] != labels["full training"] == labels["over-trained"]
    assert sorted(labels["shuffled labels"]) == sorted(labels["full training"])
    assert recipe["train"]["learning_rate"] == 10 * examine.RATE and recipe["train"]["epochs"] == 20
