"""Rows in memory, then in a file, up to a budget."""

import errno
import os
from pathlib import Path

import pytest
import torch

from tunesmith.train.frozen_store import Store

ROW = 4 * 8  # eight numbers of float32


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def filled(budget_rows: int, lengths: list[int]) -> tuple[Store, torch.Tensor]:
    """A store that was given sequences of these lengths, one call each; row r holds r, r + 1/8, ..."""
    store = Store(budget_rows * ROW)
    rows = torch.arange(sum(lengths) * 8).view(-1, 8) / 8
    for number, (length, part) in enumerate(zip(lengths, rows.split(lengths), strict=True)):
        store.add([key(number)], [length], part)
    return store, rows


def open_files(folder: Path) -> int:
    """How many open files of this process lie in the folder, the deleted ones too."""
    numbers = os.listdir("/proc/self/fd")
    links = [os.readlink(f"/proc/self/fd/{n}") for n in numbers if os.path.islink(f"/proc/self/fd/{n}")]
    return sum(link.startswith(str(folder)) for link in links)


@pytest.mark.parametrize("budget", [100, 20, 13])
def test_rows_come_back_from_memory_and_file(budget: int) -> None:
    # With a budget of 20 rows 10 lie in memory, so the sequence of rows 8 to 11 lies in both; with 13, 6 do.
    store, rows = filled(budget, [3, 5, 4, 1])
    assert store.find([key(0), key(1), key(2), key(3), key(4)]) == [0, 3, 8, 12, None]
    order = torch.tensor([12, 0, 11, 8, 7, 9, 10])
    assert torch.equal(store.take(order), rows[order])
    assert torch.equal(store.take(torch.tensor([12])), rows[12:])
    assert (store.kept, store.size, store.full) == (4, 13 * ROW, "")


def test_beyond_the_budget_nothing_is_taken_and_all_before_stays() -> None:
    store, rows = filled(11, [3, 5, 4, 1])  # 8 rows fit, 12 don't; then no more is taken, though one row would fit
    assert store.find([key(number) for number in range(4)]) == [0, 3, None, None]
    assert "budget" in store.full
    assert torch.equal(store.take(torch.arange(8)), rows[:8])


def test_of_one_batch_as_many_sequences_are_taken_as_fit() -> None:
    store = Store(6 * ROW)
    states = torch.randn(9, 8, generator=torch.Generator().manual_seed(0))
    store.add([key(0), key(1), key(2)], [2, 3, 4], states)
    assert store.find([key(0), key(1), key(2)]) == [0, 2, None]
    assert torch.equal(store.take(torch.arange(5)), states[:5])


def test_another_type_or_width_is_not_taken() -> None:
    store, _ = filled(100, [2])
    store.add([key(7)], [1], torch.zeros(1, 8, dtype=torch.bfloat16))
    store.add([key(8)], [1], torch.zeros(1, 4))
    assert store.find([key(7), key(8)]) == [None, None]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed there")
def test_the_file_is_gone_when_the_store_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store, _ = filled(20, [3, 5, 4, 1])
    assert open_files(tmp_path) > 0
    store.clear()
    assert open_files(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    assert (store.kept, store.size, store.find([key(0)])) == (0, 0, [None])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the disk is reserved by it")
def test_a_full_disk_leaves_what_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    store, rows = filled(20, [3, 5, 4, 1])
    assert store.find([key(number) for number in range(4)]) == [0, 3, None, None]
    assert "No space left" in store.full
    assert torch.equal(store.take(torch.arange(8)), rows[:8])


def test_what_was_first_written_in_inference_mode_is_written_and_read_outside() -> None:
    store = Store(100 * ROW)
    with torch.inference_mode():
        store.add([key(0)], [1], torch.ones(1, 8))
    store.add([key(1)], [1], torch.full((1, 8), 2.0))
    weight = torch.ones(8, requires_grad=True)
    (store.take(torch.tensor([0, 1])) * weight).sum().backward()
    assert torch.equal(weight.grad, torch.full((8,), 3.0))
