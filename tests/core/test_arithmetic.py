"""Task vectors are put together as peft does, and as a calculation by hand says."""

from __future__ import annotations

import pytest
import torch
from peft.utils import merge_utils

from tunesmith.core import arithmetic

SHAPES = [(6, 5), (17,), (2, 3, 4)]
WEIGHTS = [0.5, 2.0, -1.0]


def vectors(shape: tuple[int, ...]) -> list[torch.Tensor]:
    made = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=made) for _ in WEIGHTS]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.2, 0.7])
@pytest.mark.parametrize("way", list(arithmetic.WAYS))
def test_every_way_is_pefts(way: str, density: float, shape: tuple[int, ...]) -> None:
    given, weights = vectors(shape), torch.tensor(WEIGHTS)
    torch.manual_seed(11)
    theirs = {
        "linear": lambda: merge_utils.task_arithmetic(given, weights),
        "ties": lambda: merge_utils.ties(given, weights, density),
        "dare": lambda: merge_utils.dare_linear(given, weights, density),
        "dare_ties": lambda: merge_utils.dare_ties(given, weights, density),
    }[way]()
    before = [vector.clone() for vector in given]
    ours = arithmetic.WAYS[way](given, WEIGHTS, density, torch.Generator().manual_seed(11))
    assert torch.equal(ours, theirs)
    assert all(torch.equal(vector, kept) for vector, kept in zip(given, before, strict=True))


def test_ties_by_hand() -> None:
    # Of four entries half are kept: [4, -3, 0, 0], [0, 5, 0, -2], [1, 0, 0, -6]; sums 5, 2, 0, -8; those that agree:
    # 4 and 1 (mean of 1 * 4 and 2 * 1 is 3), 5, none, -2 and -6 (mean of -2 and 2 * -6 is -7).
    given = [torch.tensor(values) for values in ([4.0, -3, 1, 2], [1.0, 5, 0, -2], [1.0, 0.5, 0, -6])]
    found = arithmetic.ties(given, [1.0, 1.0, 2.0], 0.5, torch.Generator())
    assert found.tolist() == [3.0, 5.0, 0.0, -7.0]


def test_what_is_dropped_keeps_its_expectation() -> None:
    kept = arithmetic.drop(torch.ones(20_000), 0.25, torch.Generator().manual_seed(0))
    assert set(kept.tolist()) == {0.0, 4.0}
    assert kept.mean().item() == pytest.approx(1.0, abs=0.05)  # standard error: sqrt(3 / 20000) = 0.012


def test_density_1_keeps_all() -> None:
    vector = vectors((4, 4))[0]
    assert arithmetic.trim(vector, 1.0) is vector and arithmetic.drop(vector, 1.0, torch.Generator()) is vector


def test_heads_are_averaged_over_what_is_added() -> None:
    heads = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0]), torch.tensor([100.0, 100.0])]
    assert arithmetic.mean_of_heads(heads, [1.0, 3.0, -1.0]).tolist() == [2.5, 5.0]
    assert arithmetic.mean_of_heads(heads[:1], [0.5]).tolist() == [1.0, 2.0]
    assert arithmetic.mean_of_heads(heads, [-1.0, -1.0, -1.0]) is heads[0]
