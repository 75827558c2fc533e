"""Batches: every row once an epoch, in an order that seed and epoch alone decide, with little padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests import toy
from tunesmith.core import registry
from tunesmith.core.rows import Joined
from tunesmith.core.step import Batch, Update
from tunesmith.train import batches
from tunesmith.train.batches import Batches, order
from tunesmith.train.mix import Mix


def stream(count: int = 22, seed: int = 0, **train: int) -> Batches:
    return toy.prepared({"train": {"seed": seed, **train}}, count=count).batches


def numbers(stream: Batches, start: int, updates: int) -> list[list[int]]:
    found = stream.stream(start)
    return [[row for batch in next(found).batches for row in batch.rows] for _ in range(updates)]


@pytest.mark.parametrize(("rows", "size"), [(1, 8), (7, 8), (8, 8), (9, 8), (1000, 8), (1003, 1)])
def test_every_row_once_and_updates_full(rows: int, size: int) -> None:
    lengths = np.random.default_rng(1).integers(1, 500, rows)
    updates = order(lengths, size, seed=3)
    assert sorted(np.concatenate(updates).tolist()) == list(range(rows))
    sizes = sorted(len(update) for update in updates)
    assert sizes[1:] == [size] * (len(sizes) - 1) and len(updates) == -(-rows // size)


def test_the_longest_rows_come_first() -> None:
    lengths = np.random.default_rng(1).permutation(5000)
    for seed in range(5):
        assert lengths[order(lengths, 16, seed)[0]].max() == 4999


def test_the_order_is_that_of_the_seed() -> None:
    lengths = np.random.default_rng(1).integers(1, 500, 300)
    first, same, other = (np.concatenate(order(lengths, 8, seed)).tolist() for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_the_order_stays_random() -> None:
    # Apart from the first update, the length of an update tells nothing about its place.
    lengths = np.random.default_rng(1).integers(1, 500, 64 * 200)
    means = [lengths[update].mean() for update in order(lengths, 64, seed=0)[1:]]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25
    # And rows that stand together in one epoch do not in the next.
    first, second = (order(lengths, 64, seed) for seed in (0, 1))
    assert len(set(first[5].tolist()) & set(second[5].tolist())) < 10


def padding(updates: list[np.ndarray], lengths: np.ndarray) -> float:
    padded = sum(lengths[update].max() * len(update) for update in updates)
    return 1 - lengths.sum() / padded


def test_little_is_padded() -> None:
    lengths = np.random.default_rng(1).lognormal(4, 0.8, 10_000).astype(int) + 1
    shuffled = np.random.default_rng(2).permutation(len(lengths))
    random_share = padding([shuffled[at : at + 32] for at in range(0, len(lengths), 32)], lengths)
    assert random_share > 0.6
    assert padding(order(lengths, 32, seed=0), lengths) < 0.3 * random_share


@pytest.mark.parametrize(("size", "micro"), [(8, 8), (8, 4), (8, 1)])
def test_the_stream_gives_every_row_once_an_epoch(size: int, micro: int) -> None:
    made = stream(batch_size=size, micro_batch_size=micro)
    assert made.updates_an_epoch == 3
    for epoch in range(2):
        rows = [row for update in numbers(made, 3 * epoch, 3) for row in update]
        assert sorted(rows) == list(range(22))
    update = next(made.stream(0))
    assert [len(batch.rows) for batch in update.batches] in ([micro] * (size // micro), [min(micro, 6), 6 - micro])


def test_the_stream_goes_on_from_any_update() -> None:
    made = stream()
    whole = numbers(made, 0, 14)
    assert numbers(stream(), 0, 14) == whole
    for start in (1, 5, 6, 7, 11):
        assert numbers(stream(), start, 14 - start) == whole[start:]
    assert numbers(stream(seed=1), 0, 14) != whole
    assert numbers(made, 0, 6) != numbers(made, 6, 6)


def test_micro_batches_are_the_rows_of_the_whole_batch() -> None:
    assert numbers(stream(batch_size=8, micro_batch_size=2), 0, 6) == numbers(stream(batch_size=8), 0, 6)


def test_the_epoch_is_told_as_a_fraction() -> None:
    found = stream(batch_size=8).stream(0)
    assert [next(found).epoch for _ in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3])


def test_pools_keep_memory_of_length_local(monkeypatch: pytest.MonkeyPatch) -> None:
    # With a pool of one update nothing is sorted across updates.
    lengths = np.arange(1000)
    monkeypatch.setattr(batches, "POOL", 1)
    assert padding(order(lengths + 1, 10, seed=0), lengths + 1) > 0.3


def test_texts_that_are_cut_are_counted_once() -> None:
    rows = Dataset.from_list([{"text": "x" * (300 if n % 2 else 3), "label": "ab"[n % 2], "line": n} for n in range(8)])
    made = toy.prepared({"task": {"name": "classify", "max_length": 16}}, rows=rows).batches
    numbers(made, 0, 5)
    assert made.cut == 4


def taken(made: Batches, start: int, updates: int) -> list[Batch]:
    found = made.stream(start)
    return [batch for _ in range(updates) for batch in next(found).batches]


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert [batch.rows for batch in found] == [batch.rows for batch in expected]
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in ((one.inputs, other.inputs), (one.fields, other.fields)):
            assert mine.keys() == theirs.keys()
            for name in mine:
                assert mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name])


@pytest.mark.parametrize("task", [name for name in registry.names("tasks") if name != "classify_image"])
def test_ahead_and_kept_change_no_batch(task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = "builtin:tiny-gpt2" if task == "generate" else "builtin:tiny-bert"
    plain = toy.prepared({"model": model, "task": task}, count=10).batches
    caplog.clear()
    caplog.set_level("INFO")
    epoch = plain.updates_an_epoch
    fast = replace(plain, ahead=2, kept=tmp_path / "kept.arrow")
    expected = taken(plain, 0, 3 * epoch)
    assert_same(taken(fast, 0, 3 * epoch), expected)
    # From the file that the first pass left, and in the middle of an epoch.
    assert (tmp_path / "kept.arrow").is_file() or "encoded anew" in caplog.text
    assert_same(taken(replace(plain, kept=tmp_path / "kept.arrow"), 1, epoch), taken(plain, 1, epoch))
    assert plain.cut == fast.cut


def test_only_what_was_taken_counts_as_cut() -> None:
    rows = Dataset.from_list([{"text": "x" * 300, "label": "ab"[n % 2], "line": n} for n in range(16)])
    made = toy.prepared({"task": {"name": "classify", "max_length": 16}}, rows=rows).batches
    found = replace(made, ahead=3)
    stream = found.stream(0)
    for updates in range(1, 4):
        next(stream)
        assert found.cut == 4 * updates


def test_a_thread_has_a_tokenizer_of_its_own() -> None:
    # Two threads that cut with one tokenizer at other lengths would disturb each other.
    made = replace(toy.prepared({}, count=40).batches, ahead=4)
    stream = made.stream(0)
    expected = made.tokenizer("amber basil cedar", truncation=True, max_length=5)["input_ids"]
    for _ in range(30):
        next(stream)
        assert made.tokenizer("amber basil cedar", truncation=True, max_length=5)["input_ids"] == expected


def update_of(*rows: list[int]) -> Update:
    return Update([Batch({}, {}, numbers) for numbers in rows], 1.0)


def test_rows_are_named_by_their_lines() -> None:
    made = stream(count=8)
    assert made.where(update_of([3], [0])) == "line 5, line 2"
    without = Dataset.from_list([{"text": "x", "label": "a"}, {"text": "y", "label": "b"}])
    assert toy.prepared({}, rows=without).batches.where(update_of([1])) == "row 1"


def of_two_files(ahead: int = 0, **train: int) -> Batches:
    """Files of 16 and 6 rows; an epoch has 22 examples, of which 11 are of each."""
    made = stream(**train)
    return replace(made, mix=Mix(["a.csv", "b.csv"], [1.0, 1.0], [16, 6], made.seed), ahead=ahead)


@pytest.mark.parametrize("ahead", [0, 3])
def test_an_epoch_of_several_files_has_their_shares(ahead: int) -> None:
    made = of_two_files(ahead, batch_size=8)
    assert made.updates_an_epoch == 3
    for epoch in range(4):
        rows = [row for update in made.epoch(epoch) for row in update.tolist()]
        assert sum(row < 16 for row in rows) == sum(row >= 16 for row in rows) == 11
        assert sorted(len(update) for update in made.epoch(epoch)) == [6, 8, 8]
        taken = [row for update in numbers(made, 3 * epoch, 3) for row in update]
        assert sorted(taken) == sorted(rows)


def test_what_was_taken_of_each_file_is_counted() -> None:
    made = of_two_files(ahead=3, batch_size=8)
    assert made.seen == ()
    found = made.stream(0)
    rows: list[int] = []
    for _ in range(8):
        rows += [row for batch in next(found).batches for row in batch.rows]
        assert made.seen == [sum(row < 16 for row in rows), sum(row >= 16 for row in rows)]
    # A run that goes on counts on.
    again = replace(of_two_files(batch_size=8), seen=made.seen)
    numbers(again, 8, 1)
    assert again.seen == [22 + 11, 22 + 11]
    assert stream().seen == ()


def test_several_files_go_on_from_any_update() -> None:
    made = of_two_files(batch_size=8)
    whole = numbers(made, 0, 14)
    for start in (1, 3, 5, 11):
        assert numbers(of_two_files(batch_size=8), start, 14 - start) == whole[start:]
    assert numbers(of_two_files(batch_size=8, seed=1), 0, 14) != whole


def test_a_row_that_comes_again_in_an_epoch_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seeds = of_two_files(batch_size=4), list[tuple[int, int]]()

    def collate(examples: list[dict[str, int]], tokenizer: object) -> Batch:
        seeds.extend((example["row"], example["seed"]) for example in examples)
        return Batch({}, {}, [example["row"] for example in examples])

    monkeypatch.setattr(type(made.task), "collate", lambda self, *given: collate(*given))
    numbers(made, 0, 18)
    assert len(seeds) == 66 and len({seed for _, seed in seeds}) == 66
    assert max(sum(row == again for again, _ in seeds[:22]) for row in range(16, 22)) == 2


def test_examples_of_several_files_are_kept_once_all_came(tmp_path: Path) -> None:
    plain = replace(of_two_files(batch_size=8), ahead=0)
    # Nothing ahead: else the second epoch's would be there before they are taken.
    fast = replace(plain, kept=tmp_path / "kept.arrow")
    # In the first epoch rows of the first file are missing, and others come twice.
    expected = taken(plain, 0, 9)
    first = fast.stream(0)
    found = [batch for _ in range(3) for batch in next(first).batches]
    assert not (tmp_path / "kept.arrow").exists()
    found += [batch for _ in range(6) for batch in next(first).batches]
    assert (tmp_path / "kept.arrow").exists()
    assert_same(found, expected)
    assert_same(taken(replace(fast, ahead=2), 0, 9), expected)


def test_rows_are_named_by_their_files_where_there_are_several() -> None:
    parts = [Dataset.from_list([{"text": "x", "label": name, "line": 2 + n} for n in range(2)]) for name in "ab"]
    made = replace(stream(), rows=Joined(parts, ["a.csv", "b.csv"]))
    assert made.where(update_of([3, 0])) == "line 3 of b.csv, line 2 of a.csv"
