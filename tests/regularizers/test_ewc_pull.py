"""The pull by hand, and in pieces the same as at once."""

from __future__ import annotations

import pytest
import torch

from tunesmith.regularizers import ewc_pull
from tunesmith.regularizers.ewc_pull import penalty


def test_the_penalty_by_hand() -> None:
    found = penalty([(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]), torch.tensor([3.0, 0.5]))])
    assert found.item() == pytest.approx((3 * 1 + 0.5 * 4) / 2)
    assert penalty([]).item() == 0


@pytest.mark.parametrize("piece", [1, 5, 100])
def test_gradients_are_those_of_autograd(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ewc_pull, "PIECE", piece)
    draw = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (7,), (2, 5)]
    now, starts, information = ([torch.randn(*shape, generator=draw) for shape in shapes] for _ in range(3))
    for weight in now[:2]:
        weight.requires_grad_()
    plain = 1.5 / 2 * sum((f * (w - w0) ** 2).sum() for w, w0, f in zip(now, starts, information, strict=True))
    expected = torch.autograd.grad(plain, now[:2])
    found = penalty(zip(now, starts, information, strict=True), 1.5)
    torch.testing.assert_close(found, plain)
    for one, other in zip(torch.autograd.grad(3 * found, now[:2]), expected, strict=True):
        torch.testing.assert_close(one, 3 * other)
    with torch.no_grad():
        torch.testing.assert_close(penalty(zip(now, starts, information, strict=True), 1.5), plain)


def test_a_start_in_half_the_memory() -> None:
    now, start = torch.ones(3, requires_grad=True), torch.zeros(3, dtype=torch.bfloat16)
    found = penalty([(now, start, torch.full((3,), 2.0))])
    found.backward()
    assert found.item() == 3.0 and now.grad is not None and now.grad.tolist() == [2.0] * 3
