"""Small changes of training images that leave their class: mirrored, moved, lighter or darker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import Image

Change = Literal["flip", "shift", "brightness"]
LARGEST: dict[Change, float] = {"flip": 1.0, "shift": 0.5, "brightness": 0.9}
"""The strongest that each change may be."""


def changed(image: Image.Image, strengths: Mapping[Change, float], seed: int) -> Image.Image:
    """The image changed as `seed` draws it; every change has draws of its own, so that one more moves no other.

    flip: the probability of a mirror image. shift: the largest move, as a share of width and height, with the edge
    repeated behind it. brightness: the largest change, as a share, of all values.
    """
    mirror, across, down, light = np.random.default_rng(seed).random(4)
    if mirror < strengths.get("flip", 0.0):
        image = flipped(image)
    if most := strengths.get("shift"):
        image = shifted(
            image, *(round((2 * u - 1) * most * n) for u, n in ((across, image.width), (down, image.height)))
        )
    if most := strengths.get("brightness"):
        image = brightened(image, 1 + (2 * light - 1) * most)
    return image


def flipped(image: Image.Image) -> Image.Image:
    """The mirror image: left and right change places."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def shifted(image: Image.Image, right: int, down: int) -> Image.Image:
    """The image moved by so many pixels, of the same size: padded with its edge on one side, cropped on the other."""
    pixels = np.asarray(image)  # [height, width] or [height, width, channels]
    rows = np.clip(np.arange(image.height) - down, 0, image.height - 1)
    columns = np.clip(np.arange(image.width) - right, 0, image.width - 1)
    return Image.fromarray(np.ascontiguousarray(pixels[rows][:, columns]))


def brightened(image: Image.Image, factor: float) -> Image.Image:
    """All values times `factor`, at most white."""
    return image.point([min(255, round(value * factor)) for value in range(256)] * len(image.getbands()))
