"""Several linears as one product, against the same linears one after another."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tunesmith.core import registry, surgery
from tunesmith.core.dropout import scale_of
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.train.fused.copies import Memory
from tunesmith.train.fused.matrix import Packed, Plain, packs
from tunesmith.train.fused.products import Linear, Product
from tunesmith.train.fused.tape import Gradients, Tape

SIZES = (5, 3, 4)
FACTORS = (0.5, 1.0, 1.25)


def linears(low: tuple[int, ...] = (), dropout: float = 0.0, bias: bool = True) -> list[nn.Module]:
    """Three linears of 6 numbers; those numbered in `low` are wrapped, with a product that is not zero."""
    torch.manual_seed(0)
    made: list[nn.Module] = [nn.Linear(6, size, bias=bias or number == 1) for number, size in enumerate(SIZES)]
    for number in low:
        wrapper = LoraLinear(made[number], 2, 1.5, dropout, torch.Generator().manual_seed(number))
        surgery.freeze(wrapper.base)
        nn.init.normal_(wrapper.lora_B)
        made[number] = wrapper
    return made


def product(modules: list[nn.Module], dtype: torch.dtype = torch.float32, memory: Memory | None = None) -> Product:
    found = [Linear.of(module) for module in modules]
    plain = [linear for linear in found if isinstance(linear, Linear)]
    assert len(plain) == len(modules)
    return Product.of(plain, FACTORS[: len(plain)], dtype, memory or Memory(), "all")


def plain(one: Product) -> Plain:
    assert isinstance(one.matrix, Plain)
    return one.matrix


def both(modules: list[nn.Module], wanted: bool = True) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Output, gradient of x and gradients of all parameters: by hand, and by torch."""
    torch.manual_seed(1)
    x, grad = torch.randn(8, 6), torch.randn(8, sum(SIZES))
    parameters = [p for module in modules for p in module.parameters()]
    one, tape, gradients = product(modules), Tape(), Gradients()
    y = one.forward(x, tape)
    dx = one.backward(grad, tape, gradients, wanted)
    assert tape.tensors == []
    x = x.clone().requires_grad_(wanted)
    expected = torch.cat([f * module(x) for f, module in zip(FACTORS, modules, strict=True)], dim=1)
    expected.backward(grad)
    return [y, dx, *map(gradients.of, parameters)], [expected, x.grad, *(p.grad for p in parameters)]


@pytest.mark.parametrize(
    ("low", "frozen"),
    [((), ()), ((), (1,)), ((0,), ()), ((0,), (1, 2)), ((0, 2), (1,)), ((0, 2), (0, 1)), ((0, 1, 2), ())],
)
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients(low: tuple[int, ...], frozen: tuple[int, ...], bias: bool, wanted: bool) -> None:
    modules = linears(low, bias=bias)
    for number in frozen:
        surgery.freeze(modules[number])
    for mine, theirs in zip(*both(modules, wanted), strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or theirs is None or torch.allclose(mine, theirs, atol=1e-5)


def test_the_gradient_passes_through_where_nothing_trains() -> None:
    modules = linears((0,))
    for module in modules:
        surgery.freeze(module)
    (_, mine, *others), (_, theirs, *_) = both(modules)
    assert mine is not None and theirs is not None and torch.allclose(mine, theirs, atol=1e-5)
    assert all(other is None for other in others)


def test_dropout_of_low_rank_products_drops_the_same_in_both_passes() -> None:
    modules = linears((0, 2), dropout=0.3)
    one, tape, gradients = product(modules), Tape(), Gradients()
    x, grad = torch.randn(8, 6), torch.randn(8, sum(SIZES))
    y = one.forward(x, tape)
    masks = [t for t in tape.tensors if t is not None and not t.dtype.is_floating_point]
    dx = one.backward(grad, tape, gradients, True)
    x.requires_grad_()
    outs = []
    for number, (factor, module) in enumerate(zip(FACTORS, modules, strict=True)):
        out = module if number == 1 else module.base
        value = out(x)
        if number != 1:
            kept = x * (masks[number // 2] != 0) * scale_of(0.3)
            value = value + 1.5 * kept @ module.lora_A.T @ module.lora_B.T
        outs.append(factor * value)
    expected = torch.cat(outs, dim=1)
    expected.backward(grad)
    assert 0 < sum(int((mask == 0).sum()) for mask in masks) < 96
    assert torch.allclose(y, expected, atol=1e-5) and torch.allclose(dx, x.grad, atol=1e-5)
    for parameter in (p for module in modules for p in module.parameters() if p.requires_grad):
        assert torch.allclose(gradients.of(parameter), parameter.grad, atol=1e-5)


def test_nothing_is_dropped_while_evaluating() -> None:
    found = Linear.of(linears((0,), dropout=0.3)[0].eval())
    assert isinstance(found, Linear) and found.low is not None and found.low.dropout == 0


def test_a_wrapper_that_is_switched_off_is_its_base() -> None:
    wrapper = linears((0,))[0]
    wrapper.active = False
    found = Linear.of(wrapper)
    assert isinstance(found, Linear) and found.low is None and found.weight is wrapper.base.weight


def test_only_plain_linears_and_low_rank_products_are_known() -> None:
    class Other(nn.Linear):
        pass

    started = linears((0,))[0]
    started.start_from(torch.ones(2, 6), torch.ones(5, 2))
    assert Linear.of(Other(2, 2)) == "Other is no plain linear"
    assert Linear.of(started) == "LoraLinear adds more than a low-rank product"


@pytest.mark.parametrize("word", ["dora", "ia3"])
def test_other_wrappers_are_not_taken_for_low_rank_products(word: str) -> None:
    model = nn.Module()
    modules = linears()
    method = registry.build("methods", word)
    assert method.word() == word and isinstance(Linear.of(modules[0]), Linear)
    model.wrapped = surgery.Wrapper(modules[0])
    assert isinstance(Linear.of(model.wrapped), str)


class TestKept:
    def kept(self, modules: list[nn.Module]) -> list[bool]:
        tape = Tape()
        product(modules).forward(torch.randn(8, 6), tape)
        return [tensor is not None for tensor in tape.tensors]

    def test_a_frozen_product_keeps_nothing(self) -> None:
        modules = linears()
        for module in modules:
            surgery.freeze(module)
        assert self.kept(modules) == [False]

    def test_a_weight_that_trains_keeps_the_input_and_a_bias_does_not(self) -> None:
        modules = linears()
        for module in modules:
            surgery.freeze(module)
        modules[0].bias.requires_grad_(True)
        assert self.kept(modules) == [False]
        modules[0].weight.requires_grad_(True)
        assert self.kept(modules) == [True]

    def test_a_low_rank_product_keeps_the_input_and_the_small_product(self) -> None:
        modules = linears((0,))
        for module in modules[1:]:
            surgery.freeze(module)
        assert self.kept(modules) == [True, False, True]  # the input, no mask, the small product


class TestMemory:
    def test_copies_are_made_again_only_when_a_parameter_changes(self) -> None:
        modules, memory = linears((0,)), Memory()
        first = product(modules, torch.bfloat16, memory)
        assert product(modules, torch.bfloat16, memory).matrix is first.matrix
        with torch.no_grad():
            modules[0].lora_A.add_(1)
        second = product(modules, torch.bfloat16, memory)
        assert second.matrix is first.matrix and second.low is not first.low
        with torch.no_grad():
            modules[1].weight.add_(1)
        assert product(modules, torch.bfloat16, memory).matrix is not first.matrix

    def test_a_step_of_an_optimizer_is_a_change(self) -> None:
        modules, memory = linears(), Memory()
        parameters = [p for module in modules for p in module.parameters()]
        before = plain(product(modules, torch.bfloat16, memory)).weight.clone()
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        torch.optim.AdamW(parameters, lr=0.1, fused=True).step()
        assert not torch.equal(plain(product(modules, torch.bfloat16, memory)).weight, before)

    def test_another_type_is_another_copy(self) -> None:
        modules, memory = linears(), Memory()
        assert plain(product(modules, torch.bfloat16, memory)).weight.dtype == torch.bfloat16
        assert plain(product(modules, torch.float32, memory)).weight.dtype == torch.float32

    def test_a_copy_made_while_predicting_serves_training(self) -> None:
        modules, memory = linears(), Memory()
        with torch.inference_mode():
            made = plain(product(modules, torch.float32, memory)).weight
        assert not made.is_inference()

    def test_one_frozen_linear_in_its_own_type_is_not_copied(self) -> None:
        module = linears()[1]
        found = Linear.of(module)
        assert isinstance(found, Linear)
        one = Product.of([found], [1.0], torch.float32, Memory(), "one")
        assert plain(one).weight.data_ptr() == module.weight.data_ptr()

    @pytest.mark.skipif(not packs(torch.device("cpu"), torch.bfloat16), reason="no bfloat16 by oneDNN here")
    def test_what_is_frozen_is_packed_until_it_trains(self) -> None:
        modules, memory = linears(), Memory()
        for module in modules:
            surgery.freeze(module)
        assert isinstance(product(modules, torch.bfloat16, memory).matrix, Packed)
        assert isinstance(product(modules, torch.float32, memory).matrix, Plain)
        modules[1].weight.requires_grad_(True)
        assert isinstance(product(modules, torch.bfloat16, memory).matrix, Plain)
        with torch.no_grad():
            assert isinstance(product(modules, torch.bfloat16, memory).matrix, Packed)

    def test_a_deep_copy_remembers_nothing(self) -> None:
        modules, memory = linears(), Memory()
        first = product(modules, torch.bfloat16, memory)
        assert product(modules, torch.bfloat16, copy.deepcopy(memory)).matrix is not first.matrix
