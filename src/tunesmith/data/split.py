"""Which rows train and which judge, decided by the content of each row alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.core.notes import warn
from tunesmith.data.scan import Scan, key

Side = Literal["train", "validation", "test"]
Positions = NDArray[np.int64]


def side(content: str, *, seed: int, validation: float, test: float) -> Side:
    """The split that a row with this content belongs to: u = SHA-256(seed, content) / 2^64 against the shares.

    A pure function of the content and the seed: adding, removing or reordering other rows never moves a row, and rows
    with equal texts always land on the same side. The shares hold in expectation only, for all rows as for each class:
    of n rows a share p takes n p, give or take sqrt(n p (1 - p)).
    """
    place = key(content, seed) / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


def split(scan: Scan, *, validation: float, test: float) -> dict[Side, Positions]:
    """The positions of the rows of each split; a split whose share is 0 is left out.

    One exception to `side`: a class with no row left in training gets its rows back, with all rows of the same texts.
    """
    places = scan.keys / np.float64(2**64)  # [rows]
    held = {"test": places < test, "validation": (places >= test) & (places < test + validation)}
    train = places >= test + validation
    back = _returned(scan, train)
    train |= back
    found: dict[Side, Positions] = {"train": np.flatnonzero(train)}
    if validation:
        found["validation"] = np.flatnonzero(held["validation"] & ~back)
    if test:
        found["test"] = np.flatnonzero(held["test"] & ~back)
    return found


def _returned(scan: Scan, train: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows go back to training because a class of theirs has none there."""
    present = np.zeros(len(scan.names), dtype=np.bool_)
    present[scan.codes[train[scan.owners]]] = True
    orphans = scan.owners[~present[scan.codes]]
    if not len(orphans):
        return np.zeros(len(scan), dtype=np.bool_)
    back = np.isin(scan.keys, scan.keys[orphans])
    names = [f"'{scan.names[code]}'" for code in np.flatnonzero(~present)[:10]]
    warn(
        f"Classes without a row left in training: {', '.join(names)}{', …' if (~present).sum() > 10 else ''}. Their "
        f"rows ({int(back.sum())}) were given back to it."
    )
    return back
