"""The gradient's norm and its limit: those of torch, with and without the scaling inside the optimizer's kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from tunesmith.train import clip
from tunesmith.train.adamw import AdamW


def weights(scale: float = 1.0) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(3)
    made = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((7, 5), (300,), (2, 2), (3,))]
    for parameter in made[:-1]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=draw)
    return made


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("scale", "limit"), [(1.0, 0.1), (1.0, 1e4), (1e-4, 1.0), (50.0, 1.0)])
def test_steps_and_gradients_are_those_after_torchs_clipping(
    kind: Any, fused: bool, scale: float, limit: float
) -> None:
    mine, reference = weights(scale), weights(scale)
    ours, theirs = kind(mine, lr=0.1, fused=fused), torch.optim.AdamW(reference, lr=0.1, fused=fused)
    for _ in range(3):
        size = clip.norm(ours)
        expected = clip_grad_norm_(reference, limit)
        torch.testing.assert_close(size, expected)
        clip.step(ours, float(size), limit)
        theirs.step()
        for one, other in zip(mine, reference, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
            # What acts after a step sees the clipped gradients.
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-7)


def test_the_norm_by_hand() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))
    first.grad, second.grad = torch.tensor([1.0, 2.0]), torch.tensor([[2.0]])
    assert clip.norm(AdamW([first, second])).item() == 3.0


def test_without_a_gradient_the_norm_is_zero_and_a_step_does_nothing() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = AdamW([parameter])
    assert clip.norm(optimizer).item() == 0.0
    clip.step(optimizer, 0.0, 1.0)
    assert parameter.tolist() == [1.0, 1.0]


def test_a_step_that_fails_leaves_no_scale_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = AdamW(weights(), fused=True)

    def fail() -> None:
        assert optimizer.grad_scale is not None
        raise KeyboardInterrupt

    monkeypatch.setattr(optimizer, "step", fail)
    with pytest.raises(KeyboardInterrupt):
        clip.step(optimizer, 10.0, 1.0)
    assert optimizer.grad_scale is None
