"""Curves of characters, for a terminal: braille signs, each of two by four dots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

FIRST = 0x2800
"""The braille sign without dots; each dot adds its bit."""
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of the dots of a sign: of its two columns, each from above."""
PLAIN = "*"
"""What stands for any dots where braille can't be shown."""


def drawn(xs: Sequence[float], ys: Sequence[float], width: int, height: int, *, plain: bool = False) -> list[str]:
    """A curve as `height` lines of `width` signs, from the smallest x and y to the largest.

    Points that fall into one column of dots are drawn from the least to the largest of them; columns between two points
    lie on the straight line between them. Points that are no finite numbers are left out. plain: in ASCII.
    """
    spans = _columns(xs, ys, 2 * width)
    if not spans:
        return [" " * width for _ in range(height)]
    low, high = min(low for low, _ in spans.values()), max(high for _, high in spans.values())
    most = 4 * height - 1

    def row(value: float) -> int:
        return most - round((value - low) / (high - low) * most) if high > low else most // 2

    bits = [[0] * width for _ in range(height)]
    before: tuple[int, int] | None = None
    for column, (least, largest) in sorted(spans.items()):
        top, bottom = row(largest), row(least)
        if before is not None:  # no gap between neighbours
            top, bottom = min(top, before[1]), max(bottom, before[0])
        for place in range(top, bottom + 1):
            bits[place // 4][column // 2] |= DOTS[column % 2][place % 4]
        before = row(largest), row(least)
    return ["".join(_sign(one, plain) for one in line) for line in bits]


def _columns(xs: Sequence[float], ys: Sequence[float], count: int) -> dict[int, tuple[float, float]]:
    """The least and the largest value of every column of dots."""
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return {}
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    scale = (count - 1) / (last - first) if last > first else 0.0
    found: dict[int, tuple[float, float]] = {}
    for x, y in points:
        column = round((x - first) * scale)
        low, high = found.get(column, (y, y))
        found[column] = min(low, y), max(high, y)
    known = sorted(found)
    for left, right in pairwise(known):
        start, end = sum(found[left]) / 2, sum(found[right]) / 2
        for column in range(left + 1, right):
            value = start + (end - start) * (column - left) / (right - left)
            found[column] = value, value
    return found


def _sign(bits: int, plain: bool) -> str:
    if plain:
        return PLAIN if bits else " "
    return chr(FIRST + bits) if bits else " "
