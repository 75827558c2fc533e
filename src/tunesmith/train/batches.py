"""How rows become device batches: shuffled, grouped by length, cut into updates and micro-batches.

The order of an epoch is a function of seed and epoch alone, so that a run can go on from any update without replaying.
Rows are shuffled, cut into pools (at least SHARES, of at most POOL updates), sorted by length inside each pool, cut
into updates, and the updates are shuffled: rows of like length meet, so that little is padded, and the order stays
random. Lengths are `data/sizes.py`'s: characters where rows are encoded batch by batch, tokens where the task
arranged them. An epoch has every row once; where there are several files, those that `train/mix.py` draws. Another
thread may make updates ahead of time, and what was encoded once is kept: neither changes a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from math import ceil
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.core.part import Task
from tunesmith.core.rows import Rows, line_of, take
from tunesmith.core.seeding import seed_of
from tunesmith.core.step import Batch, Update
from tunesmith.train.ahead import ahead
from tunesmith.train.encoded import Encoded, Example
from tunesmith.train.mix import Draw, Mix

NAMED = 8
"""How many rows of an update a message names."""
POOL = 50
SHARES = 4


def order(lengths: np.ndarray, size: int, seed: int) -> list[np.ndarray]:
    """One epoch's updates: arrays of row numbers, each of `size` but the last; every row once.

    The update with the longest rows comes first, so that a run that needs too much memory fails at its start.
    """
    draw = np.random.default_rng(seed)
    shuffled = draw.permutation(len(lengths))
    updates = []
    # Length often tells of the label: in small data, pools must stay small or every epoch would have the same batches.
    width = size * max(1, min(POOL, len(lengths) // (size * SHARES)))
    for start in range(0, len(shuffled), width):
        pool = shuffled[start : start + width]
        pool = pool[np.argsort(-lengths[pool], kind="stable")]
        updates += [pool[at : at + size] for at in range(0, len(pool), size)]
    places = draw.permutation(len(updates))
    longest = int(np.argmax([lengths[update].max() for update in updates]))
    return [updates[longest], *[updates[place] for place in places if place != longest]]


@dataclass
class Batches:
    """The stream of updates of a whole training.

    cut: how many examples of the first epoch lost text to the length limit, known once it is over. ahead: how many
    updates another thread makes before they are asked for. kept: the file of the encoded examples, where there is to be
    one. few: updates that stand for those of every epoch, where a training is only tried out. mix: which rows an epoch
    takes of several files. seen: how many examples of each of them were taken so far.
    """

    rows: Rows
    lengths: np.ndarray
    task: Task
    tokenizer: PreTrainedTokenizerBase
    limit: int
    size: int
    micro: int
    seed: int
    cut: int = field(default=0)
    ahead: int = 0
    kept: Path | None = None
    few: Sequence[np.ndarray] | None = None
    mix: Mix | None = None
    seen: Sequence[int] = ()

    @property
    def updates_an_epoch(self) -> int:
        """Updates in one epoch, which has as many examples as there are rows."""
        return ceil(len(self.rows) / self.size) if self.few is None else len(self.few)

    def epoch(self, number: int) -> Sequence[np.ndarray]:
        """The updates of an epoch: arrays of row numbers."""
        return [draw.rows for draw in self._draws(number)]

    def stream(self, start: int) -> Iterator[Update]:
        """Updates from number `start` on, without end."""
        for update in ahead(self._made(start), self.ahead):
            # What was made but never taken must not count: a resumed run makes it again.
            if update.epoch <= 1:
                self.cut += sum(batch.cut for batch in update.batches)
            if self.mix is not None:
                found = self.mix.counted([row for batch in update.batches for row in batch.rows])
                self.seen = [before + now for before, now in zip_longest(self.seen, found, fillvalue=0)]
            yield update

    def _made(self, start: int) -> Iterator[Update]:
        epoch, place = divmod(start, self.updates_an_epoch)
        while True:
            updates = self._draws(epoch)
            for number in range(place, len(updates)):
                batches = [self._batch(part) for part in self._split(updates[number])]
                yield Update(batches, epoch + (number + 1) / len(updates))
            epoch, place = epoch + 1, 0

    def where(self, update: Update) -> str:
        """The first rows of an update as a user finds them: the line numbers of their file."""
        numbers = [row for batch in update.batches for row in batch.rows][:NAMED]
        lines = [line_of(row) for row in take(self.rows, numbers)]
        return ", ".join(f"line {line}" if line else f"row {n}" for n, line in zip(numbers, lines, strict=True))

    def _draws(self, epoch: int) -> list[Draw]:
        """The updates of an epoch."""
        if self.few is not None:
            return [Draw(rows, np.full(len(rows), epoch)) for rows in self.few]
        every = len(self.rows)
        draw = Draw(np.arange(every), np.full(every, epoch)) if self.mix is None else self.mix.draw(epoch)
        updates = order(self.lengths[draw.rows], self.size, seed_of(self.seed, f"order {epoch}"))
        return [draw.at(update) for update in updates]

    def _split(self, draw: Draw) -> list[Draw]:
        return [draw.at(np.s_[at : at + self.micro]) for at in range(0, len(draw.rows), self.micro)]

    def _batch(self, draw: Draw) -> Batch:
        examples = self._examples.take(draw.rows.tolist())
        for example, number, again in zip(examples, draw.rows.tolist(), draw.passes.tolist(), strict=True):
            # The passes over a single file are its epochs.
            example["row"], example["seed"] = number, seed_of(self.seed, f"row {number} of epoch {again}")
        return self.task.collate(examples, self._own_tokenizer)

    @cached_property
    def _examples(self) -> Encoded:
        return Encoded(self._encode, len(self.rows), self.kept)

    def _encode(self, numbers: list[int]) -> list[Example]:
        return self.task.encode(take(self.rows, numbers), self._own_tokenizer, self.limit)

    @cached_property
    def _own_tokenizer(self) -> PreTrainedTokenizerBase:
        # A tokenizer holds how its last texts were cut: two threads must not share one.
        return copy.deepcopy(self.tokenizer) if self.ahead else self.tokenizer
