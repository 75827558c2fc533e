"""Linears of every make are read and written alike."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tests.core.test_quantised import normal, packed
from tunesmith.core.linear import features, in_type_of, weight_of, with_weight

OUT, IN = 6, 64
QUANTISED = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: tunesmith[quantize]"
)
PLAIN = ["linear", "conv1d"]
EVERY = [*PLAIN, *(pytest.param(make, marks=QUANTISED) for make in ("nf4", "int8", "nf4-conv1d", "int8-conv1d"))]


def made(make: str) -> nn.Module:
    """A layer from 64 to 6 features, with a bias."""
    if make == "linear":
        layer: nn.Module = nn.Linear(IN, OUT)
    elif make == "conv1d":
        layer = Conv1D(OUT, IN)
        nn.init.normal_(layer.bias)
    else:
        layer = packed(normal(OUT, IN), make.split("-")[0], normal(OUT), transposed=make.endswith("conv1d"))
    return layer


def product(layer: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the layer multiplies by, [out, in], from what it gives for the unit vectors."""
    with torch.no_grad():
        found: Tensor = (layer(torch.eye(IN, dtype=dtype)) - layer(torch.zeros(1, IN, dtype=dtype))).T
    return found


@pytest.mark.parametrize("make", EVERY)
def test_the_weight_is_what_the_layer_multiplies_by(make: str) -> None:
    layer = made(make)
    assert features(layer) == (IN, OUT)
    weight = weight_of(layer)
    assert weight.dtype == torch.float32 and weight.shape == (OUT, IN) and not weight.requires_grad
    assert torch.allclose(product(layer), weight, atol=1e-6)


@pytest.mark.parametrize("make", EVERY)
def test_another_weight_makes_a_plain_layer_of_the_same_make(make: str) -> None:
    layer, random = made(make), torch.get_rng_state()
    before, weight = weight_of(layer).clone(), torch.arange(OUT * IN).reshape(OUT, IN) / 100
    plain = with_weight(layer, weight)
    assert torch.equal(torch.get_rng_state(), random)
    assert type(plain) is (Conv1D if make.endswith("conv1d") else nn.Linear)
    assert torch.equal(weight_of(plain), weight)
    assert torch.equal(plain.bias, layer.bias) and plain.bias is not layer.bias
    assert torch.allclose(product(plain), weight, atol=1e-5)
    assert torch.equal(weight_of(layer), before)
    assert plain.weight.is_contiguous() and plain.weight.requires_grad == (make in PLAIN)  # type: ignore[operator]
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}


@pytest.mark.parametrize("make", EVERY)
def test_another_bias(make: str) -> None:
    layer = made(make)
    plain = with_weight(layer, weight_of(layer), torch.ones(OUT))
    assert torch.equal(plain(torch.zeros(1, IN)), torch.ones(1, OUT))
    assert not torch.equal(layer(torch.zeros(1, IN)), torch.ones(1, OUT))


@pytest.mark.parametrize("make", EVERY)
def test_a_layer_in_float64(make: str) -> None:
    layer = made(make).double()
    plain = with_weight(layer, weight_of(layer).double())
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float64}
    assert torch.allclose(product(plain, torch.float64), product(layer, torch.float64), atol=1e-12)


@pytest.mark.parametrize("make", PLAIN)
def test_types_are_kept(make: str) -> None:
    layer = made(make).bfloat16()
    assert weight_of(layer).dtype == torch.float32
    assert with_weight(layer, weight_of(layer) + 1).weight.dtype == torch.bfloat16
    assert weight_of(made(make).double()).dtype == torch.float64


def test_a_layer_of_integers_is_refused() -> None:
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"Linear holds torch\.int8"):
        weight_of(layer)


def test_a_layer_without_a_bias_stays_without() -> None:
    layer = nn.Linear(IN, OUT, bias=False)
    assert with_weight(layer, weight_of(layer)).bias is None


@QUANTISED
def test_a_quantised_layer_without_a_bias_stays_without() -> None:
    layer = packed(normal(OUT, IN), "nf4")
    assert with_weight(layer, weight_of(layer)).bias is None


def test_inputs_take_the_type_of_the_parameter() -> None:
    x, parameter = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1)
    assert in_type_of(parameter, x).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert in_type_of(parameter, x).dtype == torch.bfloat16
