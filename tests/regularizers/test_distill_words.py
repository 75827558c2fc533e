"""How far words are from the start: by hand, and in portions the same as over all scores at once."""

from __future__ import annotations

import math

import pytest
import torch

from tunesmith.core import portions
from tunesmith.core.words import Words
from tunesmith.regularizers.distill_words import divergence, of_words

PLACES, IN, WORDS = 13, 6, 29


def test_the_divergence_of_two_classes_by_hand() -> None:
    now, before, temperature = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 2.0
    p = 1 / (1 + math.exp(2 / 2))  # of the first class before
    q = 1 / (1 + math.exp(-1 / 2))  # now
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert divergence(now, before, temperature).item() == pytest.approx(4 * expected, rel=1e-5)
    assert divergence(now, now, temperature).item() == pytest.approx(0, abs=1e-7)


def made(seed: int, bias: bool) -> Words:
    """What tells the scores of some places, in float64."""
    draw = torch.Generator().manual_seed(seed)
    kind = torch.float64
    states, weight, numbers = (
        torch.randn(*shape, generator=draw, dtype=kind).requires_grad_()
        for shape in ((PLACES, IN), (WORDS, IN), (WORDS,))
    )
    return Words(torch.ones(1, PLACES, dtype=torch.bool), states, weight, numbers if bias else None, kind)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("portion", [1, 4 * WORDS, 1 << 20])
def test_portions_give_the_loss_and_gradients_of_the_whole(
    bias: bool, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, before = made(0, bias), made(1, bias)
    assert now.weight is not None and before.weight is not None
    wanted = [now.states, now.weight, *([now.bias] if now.bias is not None else [])]
    whole = [
        torch.nn.functional.linear(one.states, one.weight, one.bias)  # type: ignore[arg-type]
        for one in (now, before)
    ]
    told = (whole[1].detach() / 3).log_softmax(-1)
    expected = 9 * (told.exp() * (told - (whole[0] / 3).log_softmax(-1))).sum()
    gradients = torch.autograd.grad(expected, wanted)
    monkeypatch.setattr(portions, "PORTION", portion)
    monkeypatch.setattr(portions, "STRIP", 2 * WORDS)
    found = of_words(now, before, 3.0)
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad(2 * found, wanted), gradients, strict=True):
        torch.testing.assert_close(one, 2 * other)
    assert of_words(now, now, 3.0).item() == pytest.approx(0, abs=1e-12)


def test_scores_that_are_given_whole() -> None:
    now, before = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    chosen = torch.ones(1, 4, dtype=torch.bool)
    words = [Words(chosen, one, None, None, torch.float32) for one in (now, before)]
    torch.testing.assert_close(of_words(words[0], words[1], 2.0), divergence(now, before, 2.0))
