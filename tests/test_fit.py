"""The largest batch that fits: doubling, and no trial that would not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests import toy
from tunesmith import fit


def machine(monkeypatch: pytest.MonkeyPatch, base: int, an_example: int) -> tuple[Callable[[int], None], list[int]]:
    """A machine whose peak is `base` bytes and `an_example` more for each example of the largest batch so far."""
    tried: list[int] = []
    monkeypatch.setattr(fit, "peak_memory", lambda: base + an_example * max(tried, default=0))
    return tried.append, tried


# 10 bytes an example, 0.8 of 1,000 bytes free. After size 32 the peak has grown by 320, by 160 in the last doubling:
# 64 is expected to need 320 + 2 * 160 = 640 and fits; 128 would need 640 + 640 = 1,280.
@pytest.mark.parametrize(("reserved", "expected"), [(0, 64), (200, 32), (790, 1)])
def test_sizes_double_until_the_next_would_not_fit(
    monkeypatch: pytest.MonkeyPatch, reserved: int, expected: int
) -> None:
    trial, tried = machine(monkeypatch, 5_000, 10)
    assert fit.largest(trial, 256, reserved, lambda: 1_000) == expected
    assert tried == [2**n for n in range(len(tried))]
    assert tried[-1] == expected


@pytest.mark.parametrize(("most", "expected"), [(256, 256), (100, 64), (1, 1)])
def test_it_ends_at_the_most(monkeypatch: pytest.MonkeyPatch, most: int, expected: int) -> None:
    trial, _ = machine(monkeypatch, 0, 1)
    assert fit.largest(trial, most, 0, lambda: 10**9) == expected


def test_a_training_settles_it_and_learns_nothing_by_it() -> None:
    found = toy.prepared({"train": {"batch_size": "auto"}}, 20)
    fixed = toy.prepared({"train": {"batch_size": 16}}, 20)
    assert found.recipe.train.batch_size == found.batches.size == 16
    assert all(torch.equal(a, b) for a, b in zip(toy.weights(found).values(), toy.weights(fixed).values(), strict=True))
    assert all(parameter.grad is None for parameter in found.training.model.parameters())


def test_free_memory_is_no_more_than_the_machines() -> None:
    assert 0 < fit.free_memory() < 2**50
