"""Batches of several tasks: whose turn it is, and that a stream goes on from anywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from tests import toy
from tunesmith.core.step import Batch, Update
from tunesmith.train.several import SeveralBatches


def several(*counts: int, shares: tuple[float, ...] | None = None, seed: int = 0) -> SeveralBatches:
    each = [toy.prepared({}, count=count).batches for count in counts]
    given = shares or tuple(count / sum(counts) for count in counts)
    return SeveralBatches(each, [f"task{n}" for n in range(len(counts))], lambda progress: given, 3.0, seed)


def test_an_epoch_gives_every_task_its_share_in_an_order_of_its_own() -> None:
    made = several(40, 16)  # batches of 4: 10 and 4 updates
    assert made.updates_an_epoch == 14
    first, second = made.turns(0), made.turns(1)
    assert np.bincount(first).tolist() == np.bincount(second).tolist() == [10, 4]
    assert first.tolist() != second.tolist()
    assert first.tolist() == several(40, 16).turns(0).tolist()
    assert first.tolist() != several(40, 16, seed=1).turns(0).tolist()


def test_in_an_epoch_by_rows_every_row_of_every_task_comes_once() -> None:
    made = several(40, 16)
    seen: dict[int, list[int]] = {0: [], 1: []}
    for update in islice(made.stream(0), made.updates_an_epoch):
        for batch in update.batches:
            seen[batch.of] += batch.rows
    assert sorted(seen[0]) == list(range(40)) and sorted(seen[1]) == list(range(16))


def test_a_task_with_a_larger_share_begins_again() -> None:
    made = several(40, 16, shares=(0.5, 0.5))
    rows = [row for one in islice(made.stream(0), 14) for b in one.batches if b.of == 1 for row in b.rows]
    assert len(rows) == 28 and set(rows) == set(range(16))


@pytest.mark.parametrize("start", [1, 13, 14, 20])
def test_a_stream_goes_on_from_any_update(start: int) -> None:
    whole = list(islice(several(40, 16).stream(0), 30))
    again = list(islice(several(40, 16).stream(start), 30 - start))
    assert [_told(one) for one in again] == [_told(one) for one in whole[start:]]


def _told(update: Update) -> tuple[object, ...]:
    return update.epoch, *((batch.of, list(batch.rows)) for batch in update.batches)


def test_shares_follow_the_progress_from_the_first_to_the_last_epoch() -> None:
    asked: list[float] = []

    def shares(progress: float) -> tuple[float, float]:
        asked.append(progress)
        return 0.5, 0.5

    made = replace(several(8, 8), shares=shares)  # three epochs
    for epoch in range(4):
        made.turns(epoch)
    assert asked == [0.0, 0.5, 1.0, 1.0]


def test_a_message_names_the_task_of_the_rows() -> None:
    made = several(8, 8)
    assert made.where(Update([Batch({}, {}, [2], of=1)], 1.0)) == "line 4 of 'task1'"
