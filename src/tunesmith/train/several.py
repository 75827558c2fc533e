"""The batches of several tasks that train together: every update is of one of them.

In an epoch, as long as one pass over all tasks' rows, each task gets its share of the updates, in an order drawn anew;
a task that gets more than it has begins again, one that gets fewer goes on where it was. All of it is a function of
seed and number of the update, so that a run can go on from any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tunesmith.core.seeding import seed_of
from tunesmith.core.step import Update
from tunesmith.train.batches import Batches
from tunesmith.train.mix import apportioned


@dataclass
class SeveralBatches:
    """The stream of updates of several tasks, with the face of `Batches`.

    each: those of every task, in the order of `Batch.of`. names: of the tasks. shares: from the progress of the
    training, 0 in the first epoch and 1 in the last, each task's part of an epoch. epochs: how many there are. cut: as
    in `Batches`.
    """

    each: Sequence[Batches]
    names: Sequence[str]
    shares: Callable[[float], Sequence[float]]
    epochs: float
    seed: int
    cut: int = 0

    @property
    def size(self) -> int:
        """Rows of an update."""
        return self.each[0].size

    @property
    def rows(self) -> range:
        """A number for every training row."""
        return range(sum(len(one.rows) for one in self.each))

    @property
    def seen(self) -> list[list[int]]:
        """Of every task, what was taken of each of its files (`Batches.seen`)."""
        return [list(one.seen) for one in self.each]

    @seen.setter
    def seen(self, counts: Sequence[Sequence[int]]) -> None:
        for one, own in zip(self.each, counts, strict=True):
            one.seen = own

    @property
    def updates_an_epoch(self) -> int:
        """Updates as long as one pass over all rows."""
        return sum(one.updates_an_epoch for one in self.each)

    def turns(self, epoch: int) -> np.ndarray:
        """Whose turn each update of an epoch is: [updates], numbers of tasks."""
        progress = min(1.0, epoch / max(1.0, self.epochs - 1))
        counts = apportioned(self.shares(progress), self.updates_an_epoch)
        draw = np.random.default_rng(seed_of(self.seed, f"turns {epoch}"))
        return draw.permutation(np.repeat(np.arange(len(self.each)), counts))

    def stream(self, start: int) -> Iterator[Update]:
        """Updates from number `start` on, without end."""
        epoch, place = divmod(start, self.updates_an_epoch)
        done = np.zeros(len(self.each), dtype=int)
        for number in range(epoch):
            done += np.bincount(self.turns(number), minlength=len(self.each))
        done += np.bincount(self.turns(epoch)[:place], minlength=len(self.each))
        streams = [one.stream(int(count)) for one, count in zip(self.each, done, strict=True)]
        while True:
            turns = self.turns(epoch)
            for number in range(place, len(turns)):
                of = int(turns[number])
                before = self.each[of].cut
                made = next(streams[of])
                self.cut += self.each[of].cut - before
                yield Update([replace(one, of=of) for one in made.batches], epoch + (number + 1) / len(turns))
            epoch, place = epoch + 1, 0

    def where(self, update: Update) -> str:
        """The first rows of an update, and of which task they are."""
        of = update.batches[0].of
        return f"{self.each[of].where(update)} of '{self.names[of]}'"
