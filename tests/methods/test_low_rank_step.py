"""The low-rank step by hand against the same formula operation by operation, whose gradients are autograd's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from tunesmith.core.dropout import fast_dropout
from tunesmith.core.quantised import Int8Linear
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.methods.low_rank_step import frozen

BASES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 4),
    "no bias": lambda: nn.Linear(6, 4, bias=False),
    "conv1d": lambda: Conv1D(4, 6),
    "trains": lambda: nn.Linear(6, 4),
    "hooked": lambda: nn.Linear(6, 4),
    "int8": lambda: Int8Linear(torch.randint(-127, 128, (4, 6)).to(torch.int8), torch.rand(4), (4, 6), None, False),
}
MORE = ("trains", "hooked", "int8")
"""Bases that do more than a product with a frozen matrix: they do it themselves."""


def made(name: str, dropout: float = 0.0, kind: torch.dtype = torch.float64) -> LoraLinear:
    torch.manual_seed(0)
    base = BASES[name]().to(kind)
    if name != "int8":
        base.requires_grad_(name == "trains")
    if name == "hooked":
        base.register_forward_hook(lambda module, given, output: output.tanh())
    wrapper = LoraLinear(base, 2, 0.5, dropout, torch.Generator().manual_seed(0)).to(kind)
    nn.init.normal_(wrapper.lora_B)
    return wrapper


def reference(wrapper: LoraLinear, x: Tensor) -> Tensor:
    y: Tensor = wrapper.base(x)
    return y + wrapper.product(x).to(y.dtype)


def results(wrapper: LoraLinear, run: Callable[[Tensor], Tensor], learns: bool = True) -> list[Tensor]:
    """Output, and the gradients of the input and of everything that trains, with the same numbers drawn."""
    draw = torch.Generator().manual_seed(1)
    kind = wrapper.lora_A.dtype
    x = torch.randn(3, 5, 6, generator=draw, dtype=kind).requires_grad_(learns)
    torch.manual_seed(2)
    y = run(x)
    y.backward(torch.randn(y.shape, generator=draw, dtype=kind).to(y.dtype))
    found = [y.detach(), *([cast(Tensor, x.grad)] if learns else [])]
    for parameter in wrapper.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
        if parameter.grad is not None:
            found.append(parameter.grad.clone())
        parameter.grad = None
    return found


def same(found: list[Tensor], expected: list[Tensor], near: float = 1e-12) -> bool:
    pairs = list(zip(found, expected, strict=True))
    assert [one.dtype for one, _ in pairs] == [other.dtype for _, other in pairs]
    return all(torch.allclose(one.double(), other.double(), atol=near, rtol=near) for one, other in pairs)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", list(BASES))
def test_output_and_gradients_are_those_of_the_formula(name: str, dropout: float, learns: bool) -> None:
    wrapper = made(name, dropout)
    assert (frozen(wrapper.base) is None) == (name in MORE)
    expected = results(wrapper, lambda x: reference(wrapper, x), learns)
    assert same(results(wrapper, wrapper, learns), expected)


@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
def test_a_matrix_that_is_frozen_gets_no_gradient(part: str) -> None:
    wrapper = made("linear", 0.4)
    getattr(wrapper, part).requires_grad_(False)
    assert same(results(wrapper, wrapper), results(wrapper, lambda x: reference(wrapper, x)))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", ["linear", "conv1d", "trains"])
def test_under_autocast_products_are_in_its_type(name: str, dropout: float) -> None:
    wrapper = made(name, dropout, torch.float32)

    def lowered(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def inside(x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return run(x)

        return inside

    found = results(wrapper, lowered(wrapper))
    expected = results(wrapper, lowered(lambda x: reference(wrapper, x)))
    assert found[0].dtype == torch.bfloat16
    # Sums of a few numbers of about 1, each rounded to 8 bits, in another order.
    assert same(found, expected, 0.05)
    exact = results(wrapper, lambda x: reference(wrapper, x))
    assert all((one - other).norm() <= 0.03 * other.norm() for one, other in zip(found, exact, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_base_in_bfloat16_keeps_its_type_and_the_product_is_exact(dropout: float) -> None:
    wrapper = made("linear", dropout, torch.float32)
    wrapper.base.bfloat16()
    x = torch.randn(3, 6).bfloat16()
    torch.manual_seed(0)
    found = wrapper(x)
    torch.manual_seed(0)
    assert found.dtype == torch.bfloat16 and torch.equal(found, reference(wrapper, x))


@pytest.mark.parametrize("fast", [False, True])
def test_checkpointing_changes_nothing(fast: bool) -> None:
    wrapper = made("linear", 0.4)
    with fast_dropout(wrapper) if fast else nullcontext():
        expected = results(wrapper, wrapper)
        again = results(wrapper, lambda x: cast(Tensor, checkpoint(wrapper, x, use_reentrant=False)))
    assert same(again, expected)


def test_fast_masks_drop_their_share_and_keep_the_mean() -> None:
    torch.manual_seed(0)
    wrapper = LoraLinear(nn.Linear(4, 1), 1, 1.0, 0.25, torch.Generator())
    with torch.no_grad():
        wrapper.base.weight.zero_()  # type: ignore[operator]
        wrapper.base.bias.zero_()  # type: ignore[operator]
        wrapper.lora_A.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        wrapper.lora_B.fill_(3.0)
    wrapper.requires_grad_(False)
    with fast_dropout(wrapper):
        found = wrapper(torch.ones(20_000, 4))
    # 3 / (1 - 0.25) where the first number is kept, 0 elsewhere; a share of 3/4 within 4 standard deviations of 0.003.
    assert found.unique().tolist() == pytest.approx([0.0, 4.0])
    assert (found > 0).float().mean().item() == pytest.approx(0.75, abs=0.0125)
    assert torch.equal(wrapper.eval()(torch.ones(1, 4)), torch.full((1, 1), 3.0))


def test_only_what_the_gradients_need_is_kept() -> None:
    wrapper = made("linear", kind=torch.float32)
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    x = torch.randn(7, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        wrapper(x)
        # The input once, the product of low rank, A and B: neither the frozen weight nor the base's output.
        assert sorted(kept) == sorted([(7, 6), (7, 2), (2, 6), (4, 2)])


@pytest.mark.parametrize("shape", [(6,), (0, 6), (2, 3, 1, 6)])
def test_shapes_stay(shape: tuple[int, ...]) -> None:
    wrapper = made("linear")
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(wrapper(x), reference(wrapper, x))
    assert torch.allclose(copy.deepcopy(wrapper)(x), wrapper(x))
    with torch.inference_mode():
        assert torch.allclose(wrapper(x), reference(wrapper, x))


def test_a_second_derivative_is_refused() -> None:
    wrapper: Any = made("linear")
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(wrapper(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
