"""A training that is only tried out: which updates stand for an epoch, how long they take, which words they miss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from typing import Any

import numpy as np
import psutil

from tunesmith.growth import Growth
from tunesmith.train.batches import Batches

FEW = 8
"""Updates beside the first that stand for an epoch."""
PATIENCE = 20.0
"""Seconds after which no further update is tried, once there are ENOUGH."""
ENOUGH = 3
ODD = 10
"""How many times the median an update takes that did something else besides: it is counted once."""
SHAPES = 150
"""Updates after which the memory that new shapes take grows no more."""
Examples = Sequence[Mapping[str, Any]]


@dataclass
class Trial:
    """The training of the miniature, watched.

    epoch: how many updates stand for one. wanted: after how many it ends. after_first, after_last: what is done then.
    seconds: of each update; held: bytes of the process after it. evaluation: on the validation split; later: seconds of
    its largest trial when it came again. saving: seconds of the end of the loop, with a checkpoint. since: when what
    comes next began.
    """

    epoch: int
    wanted: int
    after_first: Callable[[], object] = lambda: None
    after_last: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    evaluation: Growth | None = None
    later: float = 0.0
    saving: float = 0.0
    since: float = field(default_factory=lambda: time.perf_counter())

    def interrupted(self) -> bool:
        """What the loop asks after every update: whether to stop, after a checkpoint."""
        self.seconds.append(time.perf_counter() - self.since)
        self.held.append(psutil.Process().memory_info().rss)
        if len(self.seconds) == 1:
            self.after_first()
        tired = len(self.seconds) > ENOUGH and sum(self.seconds) > PATIENCE
        ended = tired or len(self.seconds) >= self.wanted
        if ended:
            self.after_last()
        self.since = time.perf_counter()
        return ended

    def a_step(self, epoch: int, updates: int) -> float:
        """Seconds of an update, the first left out where there are others."""
        first = self.seconds[0]
        return (self.all_updates(epoch, updates) - first) / (updates - 1) if updates > 1 else first

    def all_updates(self, epoch: int, updates: int) -> float:
        """Seconds of all updates of a run with so many in an epoch."""
        first, *others = self.seconds[: self.epoch]
        # The first of an epoch has the longest rows, and stands for itself where there are others.
        again = self.seconds[self.epoch + bool(others) :]
        early, odd = _usual(others)
        late, odder = _usual(again) if again else (early, 0.0)
        # A pass that was cut short has not seen updates of every size.
        seen, _ = _usual(others[: len(again)])
        late *= early / seen if again and seen else 1.0
        in_first = min(updates, epoch) - 1
        return first + odd + odder + in_first * early + (updates - 1 - in_first) * late

    def unseen(self, updates: int) -> float:
        """Bytes that a run of so many updates holds more than its trial did.

        Every update has other shapes. The libraries keep what they prepare for each, and each leaves its own holes in
        memory: what is held grows about as held_n = held_2 + c log2(n / 2), with c found by the first pass.
        """
        seen = min(self.epoch, len(self.held))
        if seen < ENOUGH or updates <= seen:
            return 0.0
        growth = max(0, self.held[seen - 1] - self.held[1]) / log2(seen / 2)
        return growth * log2(max(seen, min(updates, SHAPES)) / seen)


def few(batches: Batches) -> list[np.ndarray]:
    """Updates that stand for an epoch: its first, and by size the middle of each of FEW equal shares of the rest."""
    first, *others = batches.epoch(0)
    others.sort(key=lambda rows: int(batches.lengths[rows].sum()))
    shares = min(FEW, len(others))
    places = [int((share + 0.5) / shares * len(others)) for share in range(shares)]
    return [first, *(others[place] for place in np.random.default_rng(0).permutation(places))] if places else [first]


def words(examples: Examples, rows: int, vocabulary: int) -> list[int]:
    """Ids of as many different words as `rows` rows are expected to hold, those of the examples among them.

    By Heaps' law the number of different words grows as rows^b; b is found by the examples and by half of them.
    """
    known, half = _distinct(examples), _distinct(examples[::2])
    if not known:
        return []
    growth = log2(len(known) / len(half)) if half else 1.0
    wanted = min(vocabulary, round(len(known) * (max(rows, len(examples)) / len(examples)) ** growth))
    others = (word for word in range(vocabulary) if word not in known)
    return [*sorted(known), *(next(others) for _ in range(wanted - len(known)))]


def _usual(seconds: Sequence[float]) -> tuple[float, float]:
    """The mean of some updates, and the seconds of those that did something else besides."""
    if not seconds:
        return 0.0, 0.0
    most = ODD * float(np.median(seconds))
    usual = [one for one in seconds if one <= most]
    return float(np.mean(usual)), sum(one for one in seconds if one > most)


def _distinct(examples: Examples) -> set[int]:
    return {word for example in examples for word in _ids(example)}


def _ids(value: Mapping[str, Any]) -> Iterator[int]:
    """Every token id of an example, of whatever parts it is made."""
    for name, inner in value.items():
        if name == "input_ids":
            yield from inner
        elif isinstance(inner, Mapping):
            yield from _ids(inner)
        elif isinstance(inner, list) and inner and isinstance(inner[0], Mapping):
            for one in inner:
                yield from _ids(one)
