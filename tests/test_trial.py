"""Which updates stand for an epoch, what they tell of all updates, and how many words an epoch holds."""

from __future__ import annotations

from math import log2
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests import toy
from tunesmith import trial
from tunesmith.core.rows import take
from tunesmith.trial import FEW, Trial, few, words


@pytest.mark.parametrize("rows", [1, 3, 4, 20, 36, 400])
def test_few_updates_are_the_first_and_the_middle_of_each_share(rows: int) -> None:
    batches = toy.prepared({}, rows).batches
    first, *others = batches.epoch(0)
    chosen = few(batches)
    assert (chosen[0] == first).all() and len(chosen) == 1 + min(FEW, len(others))
    order = sorted(range(len(others)), key=lambda place: batches.lengths[others[place]].sum())
    # Of 8 equal shares the middle ones stand at 1/16, 3/16, ...; of up to 8 updates each is its own share.
    middle = {order[int((2 * share + 1) / 16 * len(others))] for share in range(8)} if len(others) > 8 else set(order)
    assert {tuple(one) for one in chosen[1:]} == {tuple(others[place]) for place in middle}


def test_a_training_of_few_updates_runs_them_again_and_again() -> None:
    batches = toy.prepared({}, 40).batches
    batches.few = few(batches)[:3]
    stream = batches.stream(0)
    found = [[row for batch in next(stream).batches for row in batch.rows] for _ in range(7)]
    assert found == [list(one) for one in [*batches.few, *batches.few, batches.few[0]]]
    assert batches.updates_an_epoch == 3


@pytest.mark.parametrize(
    "seconds, epoch, updates, expected",
    [
        # First 5, then 1 and 3 in the first epoch; in later ones the longest (4) is left out of the mean: 0.5.
        ([5, 1, 3, 4, 0.4, 0.6], 10, 10, 5 + 9 * 2),
        ([5, 1, 3, 4, 0.4, 0.6], 10, 31, 5 + 9 * 2 + 21 * 0.5),
        # Without a second pass later epochs are as the first.
        ([5, 1, 3], 10, 30, 5 + 29 * 2),
        # A second pass that was cut short: the update of 1 second takes 0.5 now, so the mean of 2 is 1.
        ([5, 1, 3, 4, 0.5], 10, 20, 5 + 9 * 2 + 10 * 1),
        # Its longest alone tells nothing.
        ([5, 1, 3, 4], 10, 20, 5 + 19 * 2),
        ([5], 1, 1, 5),
        # An epoch of one update: the second pass is that update.
        ([5, 2], 1, 4, 5 + 3 * 2),
        # What takes ten times the median did something else, once.
        ([5, 1, 100, 1, 1, 1, 1, 1], 20, 20, 5 + 19 + 100),
    ],
)
def test_seconds_of_all_updates_by_hand(seconds: list[float], epoch: int, updates: int, expected: float) -> None:
    passes = {6: 3, 3: 3, 4: 3, 5: 3, 1: 1, 2: 1, 8: 8}
    found = Trial(epoch=passes[len(seconds)], wanted=0, seconds=seconds)
    assert found.all_updates(epoch, updates) == pytest.approx(expected)
    others = (expected - seconds[0]) / (updates - 1) if updates > 1 else seconds[0]
    assert found.a_step(epoch, updates) == pytest.approx(others)


@pytest.mark.parametrize("takes, asked", [(1.0, 6), (7.0, 4), (100.0, 4), (0.0, 6)])
def test_a_trial_ends_when_it_has_seen_enough(takes: float, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    done: list[str] = []

    def act(what: str) -> None:
        done.append(what)
        clock.now += 50.0  # which is none of the updates'

    found = Trial(3, 6, lambda: act("first"), lambda: act("last"), since=0.0)
    for _ in range(6):
        clock.now += takes
        if found.interrupted():
            break
    assert found.seconds == pytest.approx([takes] * asked)
    assert done == ["first", "last"] and found.since == clock.now


@pytest.mark.parametrize(
    "held, updates, expected",
    [
        # From update 2 to 8 memory grows by 600 in two doublings: 300 each, so to 64 by 900.
        ([1, 500, 600, 700, 800, 900, 1000, 1100], 64, 900),
        # It stops at 150.
        ([1, 500, 600, 700, 800, 900, 1000, 1100], 10**6, 300 * log2(150 / 8)),
        ([1, 500, 600, 700, 800, 900, 1000, 1100], 8, 0),
        # The second pass has the shapes of the first; memory that falls tells nothing.
        ([1, 500, 600, 700, 800, 900, 1000, 400, 9000], 64, 0),
        ([1, 500], 25, 0),
    ],
)
def test_memory_grows_with_the_shapes_that_are_met(held: list[int], updates: int, expected: float) -> None:
    assert Trial(8, 16, held=held).unseen(updates) == pytest.approx(expected)


def example(*ids: int) -> dict[str, Any]:
    return {"input_ids": list(ids), "row": 7}


def test_words_of_an_epoch_grow_by_heaps_law() -> None:
    # Half of the examples hold 2 words, all of them 4: rows^1, so 4 times the rows hold 16.
    found = words([example(5, 9), example(2, 3)], 8, vocabulary=100)
    assert len(found) == len(set(found)) == 16 and {2, 3, 5, 9} <= set(found)
    # No more than there are, none where the sample has all, and none of images.
    assert words([example(5, 9), example(2, 3)], 8, vocabulary=12) == [2, 3, 5, 9, 0, 1, 4, 6, 7, 8, 10, 11]
    assert words([example(5, 9), example(9, 5)], 1000, vocabulary=100) == [5, 9]
    assert words([{"pixels": np.zeros(2)}], 10, vocabulary=5) == []


def test_words_are_found_in_every_part_of_an_example() -> None:
    packed = {"members": [example(1, 2), {"source": example(3), "labels": [9]}], "parts": [], "cut": False}
    assert words([packed], 1, vocabulary=10) == [1, 2, 3]


@pytest.mark.parametrize("task", ["classify", "fill", "generate", "tag", "embed", "choose", "answer_span"])
def test_every_task_names_its_words_alike(task: str) -> None:
    model = "builtin:tiny-gpt2" if task == "generate" else "builtin:tiny-bert"
    prepared = toy.prepared({"task": task, "model": model})
    encode, backbone = prepared.recipe.task.encode, prepared.backbone
    examples = encode(take(prepared.batches.rows, slice(0, 4)), backbone.tokenizer, backbone.limit)
    assert len(words(examples, len(examples), 10**6)) > 3
