"""Averages by hand."""

from __future__ import annotations

import pytest
import torch

from tunesmith.schedules.average_weights import mean, mixed


@pytest.mark.parametrize(("share", "expected"), [(0.0, [1.0, 2.0]), (0.5, [2.0, 0.0]), (1.0, [3.0, -2.0])])
def test_between_two(share: float, expected: list[float]) -> None:
    weight, start, end = torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    mixed([(weight, start, end)], share)
    assert weight.tolist() == expected


def test_both_ends_are_exact() -> None:
    torch.manual_seed(0)
    weight, start, end = torch.zeros(9), torch.randn(9).bfloat16(), torch.randn(9)
    mixed([(weight, start, end)], 1.0)
    assert torch.equal(weight, end)
    mixed([(weight, start, end)], 0.0)
    assert torch.equal(weight, start.float())


def test_the_mean_of_several() -> None:
    weights = {"a": torch.zeros(2)}
    mean(weights, [{"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 0.0])}])
    assert weights["a"].tolist() == [2, 1]
    mean(weights, [{"a": torch.tensor([0.1, 0.7])}] * 3)
    assert torch.allclose(weights["a"], torch.tensor([0.1, 0.7]))
