"""Quantised layers: what they store, what they compute with, and the gradients that pass through them."""

from __future__ import annotations

import copy
import importlib.util

import pytest
import torch
from torch import Tensor, nn

from tunesmith.core import surgery
from tunesmith.core.quantised import Int8Linear, Nf4Linear, Quantised, of_bitsandbytes

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: tunesmith[quantize]"
)

# Dettmers et al., "QLoRA", 2023, appendix E.
CODES = torch.tensor(
    [
        -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
        0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
    ]
)  # fmt: skip
LARGEST_GAP = 1.0 - 0.6961928
KINDS = ["nf4", "int8"]


def packed(weight: Tensor, kind: str, bias: Tensor | None = None, transposed: bool = False) -> Quantised:
    """A layer of this weight [out, in], packed by bitsandbytes."""
    from bitsandbytes import functional

    shape = (weight.shape[0], weight.shape[1])
    if kind == "nf4":
        stored, state = functional.quantize_4bit(weight, quant_type="nf4")
        return Nf4Linear(stored, state.absmax, shape, bias, transposed)
    stored, largest, _ = functional.int8_vectorwise_quant(weight.half())
    return Int8Linear(stored, largest, shape, bias, transposed)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def blocks(weight: Tensor) -> Tensor:
    return weight.reshape(-1, 64)  # [blocks, 64]


def test_nf4_takes_the_nearest_code() -> None:
    weight = normal(32, 128)
    # Every block's largest weight is 1, so that the scales' own quantisation loses nothing.
    weight = (blocks(weight) / blocks(weight).abs().amax(1, keepdim=True)).reshape(32, 128)
    nearest = CODES[(weight[..., None] - CODES).abs().argmin(-1)]
    found = packed(weight, "nf4").dequantised()
    assert torch.allclose(found, nearest, atol=1e-6)
    assert (found - weight).abs().max() <= LARGEST_GAP / 2 + 1e-6


def test_nf4_errs_by_at_most_half_a_gap_of_the_blocks_largest() -> None:
    weight = normal(256, 256)
    error = blocks((packed(weight, "nf4").dequantised() - weight).abs())
    largest = blocks(weight).abs().amax(1, keepdim=True)
    # The scales' own 8 bits add at most 3 % of a scale here.
    assert (error <= (LARGEST_GAP / 2 + 0.03) * largest).all()
    # A normal variable in 16 codes of equal mass loses about 0.09 of itself, root mean square.
    assert error.square().mean().sqrt().item() == pytest.approx(0.09, abs=0.01)


@pytest.mark.parametrize("shape", [(32, 32), (64, 96), (100, 48), (7, 9)])
def test_nf4_unpacks_rows_of_any_length(shape: tuple[int, int]) -> None:
    # bitsandbytes 0.50.2 takes wrong scales on processors with AVX-512 where 64 does not divide a row.
    from bitsandbytes import functional

    weight = normal(*shape)
    stored, state = functional.quantize_4bit(weight, quant_type="nf4")
    codes = CODES[torch.stack([stored.flatten() >> 4, stored.flatten() & 15], 1).flatten().long()]
    expected = (codes * state.absmax.repeat_interleave(64)[: len(codes)])[: weight.numel()].view(shape)
    assert (packed(weight, "nf4").dequantised() - expected).abs().max() <= 0.03 * weight.abs().max()
    assert (packed(weight, "nf4").dequantised() - weight).abs().max() <= (LARGEST_GAP / 2 + 0.03) * weight.abs().max()


def test_nf4_is_bitsandbytes_own_double_quantisation() -> None:
    from bitsandbytes import functional

    weight = normal(96, 256)
    stored, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    assert torch.allclose(packed(weight, "nf4").dequantised(), functional.dequantize_4bit(stored, state), atol=1e-6)


def test_int8_errs_by_at_most_half_a_step_of_its_row() -> None:
    weight = normal(64, 96)
    step = weight.abs().amax(1, keepdim=True) / 127
    # Weights go through float16 first: 2^-11 of themselves.
    assert ((packed(weight, "int8").dequantised() - weight).abs() <= step / 2 + weight.abs() / 1024).all()


@pytest.mark.parametrize(("kind", "size"), [("nf4", 0.5 + 1 / 64), ("int8", 1.0)])
def test_bytes_of_a_weight(kind: str, size: float) -> None:
    layer = packed(normal(512, 512), kind)
    held = sum(parameter.nbytes for parameter in layer.parameters())
    assert held / 512**2 == pytest.approx(size, abs=0.01)
    assert surgery.count(layer) == (0, 512**2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(8, 64), (3, 32), (7, 9), (5, 13)])
def test_it_computes_with_its_weight(kind: str, shape: tuple[int, int]) -> None:
    bias = normal(shape[0])
    layer = packed(normal(*shape), kind, bias)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        weight = layer.dequantised(dtype)
        assert weight.dtype == dtype and weight.shape == shape
        found = layer(torch.eye(shape[1], dtype=dtype))  # [in, out]
        assert torch.equal(found, weight.T + bias.to(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_a_plain_linears(kind: str) -> None:
    layer = packed(normal(24, 64), kind, normal(24))
    x, target = normal(2, 5, 64).requires_grad_(), normal(2, 5, 24)
    (found,) = torch.autograd.grad((layer(x) * target).sum(), x)
    (expected,) = torch.autograd.grad((nn.functional.linear(x, layer.dequantised()) * target).sum(), x)
    assert torch.allclose(found, expected, atol=1e-6)
    double = layer.double()
    assert torch.autograd.gradcheck(double, (x[0].detach().double().requires_grad_(),))


@pytest.mark.parametrize("kind", KINDS)
def test_it_follows_autocast(kind: str) -> None:
    layer = packed(normal(24, 64), kind, normal(24))
    x = normal(5, 64).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        expected = nn.functional.linear(x, layer.dequantised(), layer.bias)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(y.float(), expected.float(), rtol=0.02, atol=0.1)
    y.float().sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_predicting_and_training_leave_what_is_stored(kind: str) -> None:
    # bitsandbytes' own 4-bit layer packs its weight anew when it predicts on a CPU with bfloat16 units.
    layer = packed(normal(64, 64), kind)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    x = normal(3, 64).requires_grad_()
    trained = layer.train()(x)
    trained.sum().backward()
    with torch.inference_mode():
        assert torch.equal(layer.eval()(x), trained)
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_its_own(kind: str) -> None:
    layer = packed(normal(8, 64), kind)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin.dequantised(), layer.dequantised())
    twin.weight.data.zero_()
    assert not torch.equal(twin.dequantised(), layer.dequantised())


def test_other_modules_are_none_of_bitsandbytes() -> None:
    assert of_bitsandbytes(nn.Linear(2, 2)) is None
    assert of_bitsandbytes(packed(normal(2, 4), "int8")) is None
