"""One token's attention without keys and values, against keys and values of all tokens and torch's own gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tunesmith.core import surgery
from tunesmith.core.attention import KEPT, Heads, attend, attend_backward, read_tokens
from tunesmith.core.dropout import Masks
from tunesmith.core.layout import Layout
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.train.fused.copies import Memory
from tunesmith.train.fused.glance import Glance, trained
from tunesmith.train.fused.products import Linear, Product
from tunesmith.train.fused.tape import Gradients, Tape

HEADS = Heads(2, 2, 3, 1.0)
HIDDEN = 6
LENGTHS = [3, 7, 1, 6, 30]
FACTOR = 1.25


def modules(low: bool, dropout: float = 0.0) -> list[nn.Module]:
    """Keys and values; with low-rank pairs beside frozen weights."""
    torch.manual_seed(0)
    made: list[nn.Module] = [nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)]
    for number in range(2 if low else 0):
        wrapper = LoraLinear(made[number], 2, 1.5, dropout, torch.Generator().manual_seed(number))
        surgery.freeze(wrapper.base)
        nn.init.normal_(wrapper.lora_B)
        made[number] = wrapper
    return made


def linears(made: list[nn.Module]) -> tuple[Linear, Linear]:
    key, value = (Linear.of(module) for module in made)
    assert isinstance(key, Linear) and isinstance(value, Linear)
    return key, value


def given(dtype: torch.dtype = torch.float32) -> tuple[Layout, Tensor, Tensor, Tensor]:
    """A layout, tokens, queries of one token a sequence, and a gradient."""
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    layout = Layout.of(mask, causal=False)
    layout = replace(layout, read=layout.starts[torch.argsort(layout.order)])
    torch.manual_seed(1)
    x, queries, grad = torch.randn(layout.total, HIDDEN), torch.randn(5, HIDDEN), torch.randn(5, HIDDEN)
    return layout, x.to(dtype), queries.to(dtype), grad.to(dtype)


def masks(rate: float, dtype: torch.dtype) -> Masks | None:
    torch.manual_seed(2)
    return Masks(rate, dtype) if rate else None


Found = dict[str, Tensor | None]


def named(made: list[nn.Module], gradients: Gradients, out: Tensor, dx: Tensor | None, dqueries: Tensor) -> Found:
    parameters = {f"{n} {name}": p for n, m in enumerate(made) for name, p in m.named_parameters()}
    return {"out": out, "x": dx, "queries": dqueries} | {name: gradients.of(p) for name, p in parameters.items()}


def mine(made: list[nn.Module], rate: float, dtype: torch.dtype = torch.float32, wanted: bool = True) -> Found:
    layout, x, queries, grad = given(dtype)
    glance = Glance.of(*linears(made), HEADS, FACTOR, Memory())
    assert glance is not None
    tape, gradients = Tape(), Gradients()
    out = glance.forward(x, queries, layout, masks(rate, dtype), tape)
    dx, dqueries = glance.backward(grad, layout, tape, gradients, wanted)
    assert tape.tensors == [] and out.dtype == dqueries.dtype == dtype
    return named(made, gradients, out, dx, dqueries)


def theirs(made: list[nn.Module], rate: float, dtype: torch.dtype = torch.float32) -> Found:
    """By keys and values of all tokens."""
    layout, x, queries, grad = given(dtype)
    product = Product.of(linears(made), (1.0, FACTOR), dtype, Memory(), "both")
    tape, gradients = Tape(), Gradients()
    row = product.forward(x, tape)
    out, kept = attend(row, layout, HEADS, masks(rate, dtype), queries)
    assert len(kept) == KEPT * len(layout.chunks)
    drow, dqueries = attend_backward(grad, kept, layout, HEADS, True)
    assert dqueries is not None
    dx = product.backward(drow, tape, gradients, True)
    return named(made, gradients, out, dx, dqueries)


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_values_and_gradients_are_those_by_keys_and_values(rate: float, low: bool) -> None:
    made = modules(low)
    expected = theirs(made, rate)
    for name, found in mine(made, rate).items():
        other = expected[name]
        assert (found is None) == (other is None), name
        assert found is None or other is None or torch.allclose(found, other, atol=1e-5, rtol=1e-4), name


def test_gradients_are_those_of_torch() -> None:
    made = modules(low=True)
    layout, x, queries, grad = given()
    x.requires_grad_()
    outs = []
    for start, length, q in zip(layout.starts.tolist(), layout.lengths, queries, strict=True):
        own = x[start : start + length]
        k, v = (module(own).view(length, 2, 3) for module in made)
        p = torch.einsum("hd,thd->ht", q.view(2, 3), k).softmax(-1)
        outs.append(FACTOR * torch.einsum("ht,thd->hd", p, v).flatten())
    expected = torch.stack(outs)
    expected.backward(grad)
    found = mine(made, 0.0)
    assert found["out"] is not None and torch.allclose(found["out"], expected, atol=1e-5)
    assert found["x"] is not None and x.grad is not None and torch.allclose(found["x"], x.grad, atol=1e-5)
    for number, module in enumerate(made):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                gradient = found[f"{number} {name}"]
                assert gradient is not None and parameter.grad is not None
                assert torch.allclose(gradient, parameter.grad, atol=1e-5), name


@pytest.mark.parametrize("low", [False, True])
def test_in_bfloat16_it_is_as_near_to_float32_as_keys_and_values_are(low: bool) -> None:
    made = modules(low)
    exact, half = theirs(made, 0.0), torch.bfloat16

    def error(found: Found) -> float:
        pairs = [(value, exact[name]) for name, value in found.items() if not name.endswith("0 bias")]
        return sum(float((a.float() - b).square().sum()) for a, b in pairs if a is not None and b is not None)

    assert 0 < error(mine(made, 0.0, half)) < 1.5 * error(theirs(made, 0.0, half))


def test_what_is_not_wanted_is_not_computed() -> None:
    made = modules(low=True)
    surgery.freeze(made[0])
    found = mine(made, 0.0, wanted=False)
    assert found["x"] is None and found["0 lora_A"] is None and found["1 lora_A"] is not None


def test_a_weight_that_changes_is_taken_anew() -> None:
    made, memory = modules(low=True), Memory()
    first = Glance.of(*linears(made), HEADS, FACTOR, memory)
    with torch.no_grad():
        for name, parameter in made[0].named_parameters():
            parameter.mul_(2 if "lora_B" in name else 1)
    second = Glance.of(*linears(made), HEADS, FACTOR, memory)
    assert first is not None and second is not None
    assert not torch.allclose(first.weights[0], second.weights[0])
    assert first.weights[1] is second.weights[1] or torch.equal(first.weights[1], second.weights[1])


def test_where_it_can_not_be_had() -> None:
    shared = Heads(2, 1, 3, 1.0)
    assert Glance.of(*linears(modules(low=False)), shared, FACTOR, Memory()) is None
    assert Glance.of(*linears(modules(low=True, dropout=0.5)), HEADS, FACTOR, Memory()) is None
    assert trained(None) == ()


def test_the_tokens_that_are_read_are_those_of_the_layout() -> None:
    layout, *_ = given()
    assert read_tokens(layout).tolist() == layout.starts.tolist()
