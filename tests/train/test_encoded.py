"""Examples that are encoded once: what comes from the disk is what was encoded, to the type of every number."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.train import encoded
from tunesmith.train.encoded import Encoded


def example(number: int) -> dict[str, Any]:
    return {
        "input_ids": list(range(number % 7 + 1)),
        "parts": [{"ids": [number, one], "text": f"part {one}"} for one in range(number % 3)],
        "flags": [one % 2 == 0 for one in range(number % 4)],
        "target": number / 2,
        "label": number % 5,
        "cut": number % 2 == 1,
    }


class Source:
    """Encodes rows by their numbers, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, numbers: list[int]) -> list[dict[str, Any]]:
        self.asked += numbers
        return [example(number) for number in numbers]


def passed(examples: Encoded, order: list[int], size: int = 4) -> None:
    """Ask for all rows in this order, and compare each with what was encoded."""
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        assert repr(examples.take(numbers)) == repr([example(number) for number in numbers])


def shuffled(count: int, seed: int) -> list[int]:
    return [int(number) for number in np.random.default_rng(seed).permutation(count)]


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_a_pass_is_kept_and_read_ever_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(encoded, "BLOCK", block)
    source, path = Source(), tmp_path / "deep" / "kept.arrow"
    examples = Encoded(source, 23, path)
    passed(examples, shuffled(23, 0))
    assert sorted(source.asked) == list(range(23))
    passed(examples, shuffled(23, 1))
    # Another run over the same rows encodes none.
    again = Source()
    passed(Encoded(again, 23, path), shuffled(23, 2))
    assert len(source.asked) == 23 and again.asked == []
    assert [file.name for file in path.parent.iterdir()] == ["kept.arrow"]


def test_a_pass_that_began_in_the_middle_is_completed_by_the_next(tmp_path: Path) -> None:
    source, path = Source(), tmp_path / "kept.arrow"
    examples, order = Encoded(source, 12, path), shuffled(12, 0)
    passed(examples, order[8:])
    assert not path.exists()
    passed(examples, order)
    assert path.exists()
    passed(examples, order)
    assert len(source.asked) == 12


def test_a_pass_that_is_not_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "BLOCK", 2)
    examples = Encoded(Source(), 12, tmp_path / "kept.arrow")
    passed(examples, list(range(8)))
    assert len(list(tmp_path.iterdir())) == 1
    del examples
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut off", "of other rows", "no Arrow"])
def test_a_damaged_file_is_written_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "kept.arrow"
    passed(Encoded(Source(), 12, path), list(range(12)))
    whole = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "no Arrow":
        path.write_bytes(b"something else")
    source, count = Source(), 13 if damage == "of other rows" else 12
    passed(Encoded(source, count, path), list(range(count)))
    assert len(source.asked) == count
    passed(Encoded(source, count, path), list(range(count)))
    assert len(source.asked) == count


def test_without_a_path_all_is_encoded_every_time() -> None:
    source = Source()
    examples = Encoded(source, 5, None)
    passed(examples, list(range(5)))
    passed(examples, list(range(5)))
    assert len(source.asked) == 10


@pytest.mark.parametrize(
    "examples",
    [
        [{"a": 1}, {"a": 1, "b": 2}],
        [{"a": 1.0}, {"a": 1}],
        [{"a": (1, 2)}, {"a": (3, 4)}],
        [{"a": [2**40]}, {"a": [1]}],
        [{"a": np.float32(1)}, {"a": np.float32(2)}],
        [{"a": 2**70}, {"a": 1}],
        [{"a": object}, {"a": object}],
    ],
    ids=["other keys", "other types", "tuples", "large numbers", "arrays", "larger numbers", "objects"],
)
def test_what_a_file_would_change_is_not_kept_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, examples: list[dict[str, Any]]
) -> None:
    caplog.set_level("INFO")
    found = Encoded(lambda numbers: [examples[number] for number in numbers], 2, tmp_path / "kept.arrow")
    for _ in range(2):
        assert found.take([0, 1]) == examples
    assert "encoded anew in every epoch" in caplog.text and caplog.text.count("anew") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoded.tempfile, "mkstemp", full)
    source = Source()
    examples = Encoded(source, 4, tmp_path / "kept.arrow")
    passed(examples, [0, 1, 2, 3])
    passed(examples, [3, 2, 1, 0])
    assert len(source.asked) == 8 and "No space left on device" in caplog.text


def test_what_is_given_may_be_changed_by_who_asked(tmp_path: Path) -> None:
    examples = Encoded(Source(), 2, tmp_path / "kept.arrow")
    for _ in range(2):
        for one in examples.take([0, 1]):
            one["input_ids"].append(99)
            one["row"] = 7
    assert examples.take([1]) == [example(1)]
