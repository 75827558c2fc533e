"""Sides are equal where they must be, take turns, and are told apart by medians of ratios."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


def case_of(tmp_path: Path, task: str = "classify", method: str = "full", **more: Any) -> Any:
    """A case on a tiny model with made rows."""
    case, data, models = (import_module(f"pairs.{name}") for name in ("case", "data", "models"))
    source = data.Source(tmp_path, None)
    if task == "classify":
        folder, called = models.builtin("builtin:tiny-bert", tmp_path / "bert")
        train = source.file("classify", 24, 8)
    else:
        words = models.trained_reader((row["prompt"] for row in source.rows("instruct", 24)), 300)
        folder, called = models.random("llama", tmp_path / "llama", words, True)
        train = source.file("instruct", 24, 8)
    return case.Case(task, folder, called, train, method, **{"batch": 8, "length": 64, **more})


@pytest.mark.parametrize("method", ["full", "lora", "lora_all", "head", "top"])
def test_both_sides_train_the_same_number_of_weights(method: str, tmp_path: Path) -> None:
    import transformers

    from tunesmith import prepare, recipe
    from tunesmith.core import surgery
    from tunesmith.data.load import load

    told = json.loads(case_of(tmp_path, method=method).told(best=True))
    peer = import_module("peers.speed_trainer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(told["model"])
    theirs = peer.prepared(told, ["negative", "positive"], tokenizer)
    settled = prepare.settle(recipe.from_values(import_module("pairs.ours").values(told)))
    splits = load(settled.data, settled.task.columns())
    prepare.learn(settled, splits)
    ours = prepare.prepare(settled, splits).backbone.model
    assert surgery.count(ours)[0] == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


@pytest.mark.parametrize("task", ["classify", "instruct"])
def test_both_sides_read_the_same_tokens(task: str, tmp_path: Path) -> None:
    import transformers

    from tunesmith import prepare, recipe
    from tunesmith.core.rows import take
    from tunesmith.data.load import load

    told = json.loads(case_of(tmp_path, task, length=100).told(best=True))
    peer = import_module("peers.speed_trainer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(told["model"])
    rows = peer.read(told["train"])
    theirs = peer.features(told, tokenizer, rows, ["negative", "positive"])
    settled = prepare.settle(recipe.from_values(import_module("pairs.ours").values(told)))
    splits = load(settled.data, settled.task.columns())
    prepare.learn(settled, splits)
    prepared = prepare.prepare(settled, splits)
    kept = prepared.batches.rows
    examples = settled.task.encode(
        take(kept, list(range(len(kept)))), prepared.backbone.tokenizer, prepared.backbone.limit
    )
    assert 1 < len(kept) <= len(rows)
    assert [list(one["input_ids"]) for one in examples] == [one["input_ids"] for one in theirs]


def test_work_by_hand(tmp_path: Path) -> None:
    work = import_module("pairs.work")
    # Two blocks of 4 x 32 x 32 and 2 x 32 x 64 weights, one text of 10 tokens: 6 P n + 12 L h n^2.
    weights = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    full = case_of(tmp_path)
    assert work.operations(full, [10]) == 6 * weights * 10 + 12 * 2 * 32 * 100
    # LoRA of rank 8 beside two of 32 x 32 in each block: its weights train, the others only hand gradients on.
    lora = case_of(tmp_path, method="lora")
    assert work.operations(lora, [10]) == (4 * weights + 2 * 2 * 2 * 8 * 64) * 10 + 12 * 2 * 32 * 100


def test_sides_take_turns_forwards_and_backwards() -> None:
    turns = import_module("pairs.turns")
    order: list[tuple[str, int]] = []

    def side(name: str) -> Any:
        return lambda turn: order.append((name, turn)) or {"rate": float(turn)}

    found = turns.take_turns({name: side(name) for name in "ab"}, 3, lambda results: None)
    assert order == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert found["a"] == [{"rate": 0.0}, {"rate": 1.0}, {"rate": 2.0}]


def test_a_process_is_timed_and_one_that_fails_ends_the_program(tmp_path: Path) -> None:
    turns = import_module("pairs.turns")
    said, seconds = turns.child([sys.executable, "-c", "import time; time.sleep(0.2); print(7)"], str(tmp_path))
    assert said == "7" and seconds >= 0.2
    with pytest.raises(SystemExit, match="failed"):
        turns.child([sys.executable, "-c", "raise ValueError"], str(tmp_path))


def test_ratios_are_taken_pair_by_pair() -> None:
    tables = import_module("pairs.tables")
    mine, theirs = [{"rate": 10.0}, {"rate": 40.0}, {"rate": 30.0}], [{"rate": 5.0}, {"rate": 10.0}, {"rate": 30.0}]
    assert tables.ratio(mine, theirs, "rate") == tables.Spread(2.0, 1.0, 4.0)
    assert tables.ratio(mine, theirs, "rate").told(".1f", "x") == "2.0x (1.0 to 4.0)"


def test_the_matrix_rate_is_that_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = import_module("pairs.machine")
    monkeypatch.setitem(machine.SIZES, "cpu", 64)
    clock = iter(range(1000))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: float(next(clock)))
    assert machine.matrix_rate("cpu", 3.0) == 2 * 64**3  # a second for each product
