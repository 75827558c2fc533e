"""Packed matrices, against plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tunesmith.train.fused.matrix import Both, Packed, Plain, packs

here = pytest.mark.skipif(
    not packs(torch.device("cpu"), torch.bfloat16), reason="this processor multiplies no bfloat16 by oneDNN"
)


def both(out: int, width: int, bias: bool) -> Both:
    torch.manual_seed(0)
    return torch.randn(out, width).bfloat16(), torch.randn(out).bfloat16() if bias else None


@here
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("out", "width"), [(12, 6), (96, 32), (5, 7)])
@pytest.mark.parametrize("tokens", [1, 32, 700])
def test_packed_gives_what_plain_gives(out: int, width: int, bias: bool, tokens: int) -> None:
    given = both(out, width, bias)
    x, grad = torch.randn(tokens, width).bfloat16(), torch.randn(tokens, out).bfloat16()
    packed, plain = Packed(lambda: given), Plain(*given)
    assert torch.allclose(packed.forward(x), plain.forward(x), rtol=0.01, atol=0.01)
    assert torch.allclose(packed.backward(grad), plain.backward(grad), rtol=0.01, atol=0.01)


@here
def test_it_is_packed_once_for_each_side_and_only_when_asked() -> None:
    made: list[Tensor] = []

    def make() -> Both:
        given = both(4, 6, True)
        made.append(given[0])
        return given

    packed, x = Packed(make), torch.randn(8, 6).bfloat16()
    assert made == []
    for _ in range(2):
        packed.forward(x)
    assert len(made) == 1
    for _ in range(2):
        packed.backward(torch.randn(8, 4).bfloat16())
    assert len(made) == 2


@here
def test_what_is_packed_while_predicting_serves_training() -> None:
    packed = Packed(lambda: both(4, 6, True))
    with torch.inference_mode():
        packed.forward(torch.randn(8, 6).bfloat16())
    assert not packed._forward[0].is_inference()


def test_only_bfloat16_on_a_cpu_is_packed() -> None:
    assert not packs(torch.device("cpu"), torch.float32) and not packs(torch.device("meta"), torch.bfloat16)
