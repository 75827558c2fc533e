"""The norm of the root mean square, against torch's own and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tunesmith.train.fused.root_norm import RootNorm, is_root_norm
from tunesmith.train.fused.tape import Gradients, Tape


def module() -> nn.RMSNorm:
    torch.manual_seed(0)
    made = nn.RMSNorm(6, eps=1e-2)
    nn.init.normal_(made.weight)
    return made


@pytest.mark.parametrize("shape", [(5, 6), (5, 3, 6)], ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize("onto", [True, False])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], factor: float, onto: bool) -> None:
    theirs, x, grad = module(), torch.randn(shape, requires_grad=True), torch.randn(shape)
    added = torch.randn(shape) if onto else None
    expected = theirs(x) * factor
    norm, tape, gradients = RootNorm.of(theirs, torch.float32, factor), Tape(), Gradients()
    assert torch.allclose(norm.forward(x.detach(), tape), expected, atol=1e-6)
    dx, dweight = torch.autograd.grad(expected, [x, theirs.weight], grad)
    found, given = norm.backward(grad, added, tape, gradients), gradients.of(theirs.weight)
    assert torch.allclose(found, dx if added is None else dx + added, atol=1e-5)
    assert given is not None and torch.allclose(given, dweight, atol=1e-5) and tape.tensors == []


def test_a_frozen_weight_gets_no_gradient() -> None:
    theirs, tape, gradients = module().requires_grad_(False), Tape(), Gradients()
    norm = RootNorm.of(theirs, torch.float32)
    norm.forward(torch.randn(5, 6), tape)
    norm.backward(torch.randn(5, 6), None, tape, gradients)
    assert gradients.of(theirs.weight) is None


def test_inside_float32_is_computed_in() -> None:
    theirs, x = module(), torch.randn(5, 6).bfloat16()
    norm = RootNorm.of(theirs, torch.bfloat16)
    exact = RootNorm.of(theirs, torch.float32).forward(x.float(), Tape())
    assert torch.equal(norm.forward(x, Tape()), exact.bfloat16())


def test_what_looks_like_such_a_norm() -> None:
    assert is_root_norm(module()) and is_root_norm(module(), 6) and is_root_norm(LlamaRMSNorm(6))
    assert not is_root_norm(module(), 4)  # not of a head's numbers
    assert not is_root_norm(nn.LayerNorm(6)) and not is_root_norm(nn.Linear(6, 6, bias=False))
    assert not is_root_norm(nn.Sequential(module())) and not is_root_norm(nn.PReLU())
