"""Near repetitions between the held-out splits and training: counted, said and shown, never dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Panel
from tunesmith.data import cache, near
from tunesmith.data.overview import NearRow, near_table
from tunesmith.data.scan import BETWEEN, contents
from tunesmith.data.slices import WORTH_KEEPING, Slice

MOST_HELD = 20_000
MOST_TRAIN = 200_000
EXAMPLES = 5


def near_panels(splits: Mapping[str, Slice], roles: Sequence[str]) -> list[Panel]:
    """The panel of near repetitions, or none; the user is warned of them.

    The first 20,000 held-out rows (spread evenly over the splits) and the first 200,000 training rows are compared.
    """
    held = {name: part for name, part in splits.items() if name != "train"}
    if not held:
        return []
    found = _pairs(held, splits["train"], roles)
    limit = _limit(held, splits["train"])
    if not found:
        return []
    counts = {name: sum(split == name for split, _ in found) for name in held}
    examples = [_example(name, pair, splits, roles=roles) for name, pair in found[:EXAMPLES]]
    total = " and ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    warn(
        f"{total} {'row repeats' if len(found) == 1 else 'rows repeat'} a training row nearly, the first in "
        f"{examples[0].split} line {examples[0].line} (training line {examples[0].train_line}): kept; "
        "figures on them flatter the model."
    )
    return [near_table(counts, examples, note=limit)]


def _pairs(held: Mapping[str, Slice], train: Slice, roles: Sequence[str]) -> list[tuple[str, near.Pair]]:
    """Near pairs with the split of the held-out row, as an earlier run over the same rows kept them."""
    if len(train.positions) < WORTH_KEEPING:
        return _searched(held, train, roles)
    names = list(held)

    def searched() -> dict[str, NDArray[Any]]:
        found = [
            (names.index(name), pair.held, pair.train, pair.similarity) for name, pair in _searched(held, train, roles)
        ]
        return {"found": np.array(found, dtype=np.float64).reshape(-1, 4)}

    rows = [
        [part.table.sha256, part.table.columns, sha256(part.positions.tobytes()).hexdigest()]
        for part in (*held.values(), train)
    ]
    kept = cache.arrays(searched, near.__file__, rows, list(roles), names)["found"].tolist()
    return [(names[int(name)], near.Pair(int(one), int(other), like)) for name, one, other, like in kept]


def _searched(held: Mapping[str, Slice], train: Slice, roles: Sequence[str]) -> list[tuple[str, near.Pair]]:
    """Near pairs without those that are equal, which count as leaks."""
    most = MOST_HELD // len(held)
    places = [(name, position) for name, part in held.items() for position in range(min(len(part.positions), most))]
    texts = chain.from_iterable(batch for part in held.values() for batch in part.texts(roles, most))
    found = []
    for pair in near.pairs(list(texts), train.texts(roles, MOST_TRAIN)):
        name, position = places[pair.held]
        if held[name].scan.keys[position] != train.scan.keys[pair.train]:
            found.append((name, near.Pair(position, pair.train, pair.similarity)))
    return found


def _limit(held: Mapping[str, Slice], train: Slice) -> str:
    most = MOST_HELD // len(held)
    if len(train.positions) <= MOST_TRAIN and all(len(part.positions) <= most for part in held.values()):
        return ""
    limit = f"The first {most:,} rows of each held-out split and the first {MOST_TRAIN:,} training rows were compared."
    note(f"Near repetitions: {limit}")
    return limit


def _example(name: str, pair: near.Pair, splits: Mapping[str, Slice], *, roles: Sequence[str]) -> NearRow:
    part, train = splits[name], splits["train"]
    return NearRow(
        name,
        part.scan.place(pair.held),
        _content(part, pair.held, roles),
        train.scan.place(pair.train),
        _content(train, pair.train, roles),
    )


def _content(part: Slice, position: int, roles: Sequence[str]) -> str:
    row = part.table.rows.table([int(part.positions[position])])
    return contents(row, roles)[0].replace(BETWEEN, " | ")
