"""Changes of images: each by hand, and all of them drawn from a seed."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.tasks.test_classify_image import pixels
from tunesmith.tasks import image_changes


def test_changes_by_hand() -> None:
    image = Image.fromarray(np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8))
    assert pixels(image_changes.flipped(image)) == [[30, 20, 10], [60, 50, 40]]
    assert pixels(image_changes.shifted(image, 1, 0)) == [[10, 10, 20], [40, 40, 50]]
    assert pixels(image_changes.shifted(image, -2, 1)) == [[30, 30, 30], [30, 30, 30]]
    assert pixels(image_changes.brightened(image, 5.0)) == [[50, 100, 150], [200, 250, 255]]
    colours = Image.new("RGB", (1, 1), (100, 50, 10))
    assert pixels(image_changes.brightened(colours, 0.5)) == [[[50, 25, 5]]]
    assert pixels(image_changes.shifted(colours, 1, 1)) == [[[100, 50, 10]]]


def test_changes_are_drawn_from_the_seed_alone() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    every: dict[image_changes.Change, float] = {"flip": 0.5, "shift": 0.2, "brightness": 0.3}
    drawn = [pixels(image_changes.changed(image, every, seed)) for seed in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert image_changes.changed(image, {}, 1) == image
    # One change more moves no other: mirrored are the same images, with the shift and without.
    mirrored = [
        image_changes.changed(image, {"flip": 0.5}, seed) == image_changes.flipped(image) for seed in range(200)
    ]
    assert 70 < sum(mirrored) < 130
    sure = {"flip": 1.0, "brightness": 0.3}
    assert pixels(image_changes.flipped(image_changes.changed(image, sure, 5))) == pixels(  # type: ignore[arg-type]
        image_changes.changed(image, {"brightness": 0.3}, 5)
    )
