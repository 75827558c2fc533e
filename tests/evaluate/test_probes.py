"""Linear probes: what is there is read, what is not is not."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.core.errors import DataError
from tunesmith.evaluate import probes

LABELS = ["a"] * 30 + ["b"] * 30


def test_a_class_that_features_hold_is_read_and_one_that_they_do_not_hold_is_not() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(60, 6))
    held = noise.copy()
    held[:, 2] += [4 if label == "a" else -4 for label in LABELS]
    assert probes.right(held, LABELS).mean() > 0.95
    assert 0.25 < probes.right(noise, LABELS).mean() < 0.75
    assert probes.right(held, LABELS).tolist() == probes.right(1000 * held + 3, LABELS).tolist()


def test_every_row_is_told_by_a_classifier_that_did_not_see_it() -> None:
    # One feature a row: seen rows are learned by heart, unseen ones can't be told.
    assert probes.right(np.eye(60), LABELS).mean() < 0.6


def test_chance_and_what_is_refused() -> None:
    assert probes.chance(["a", "a", "b"]) == pytest.approx(2 / 3)
    probes.check("fine", ["a", "a", "b", "b"])
    with pytest.raises(DataError, match="The probe 'mood' needs at least two classes with two rows each; it has a: 3"):
        probes.check("mood", ["a", "a", "a"])
    with pytest.raises(DataError, match="b: 1"):
        probes.check("mood", ["a", "a", "b"])
