"""Rotation by position, against transformers' own and torch's gradient of it."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tunesmith.train.fused.turn import Turn, heads_of, wide

TOKENS, HEADS, SIZE = 5, 3, 4


def numbers() -> tuple[Tensor, Tensor, Tensor]:
    """Heads of tokens, and any cosines and sines: their two halves need not be equal."""
    torch.manual_seed(0)
    return torch.randn(TOKENS, HEADS, SIZE), torch.randn(TOKENS, SIZE), torch.randn(TOKENS, SIZE)


def test_it_turns_as_transformers_does_and_leaves_other_heads() -> None:
    heads, cos, sin = numbers()
    row = heads.flatten(1).clone()
    Turn(cos[:, None], sin[:, None]).forward_(row, 2)
    expected, _ = apply_rotary_pos_emb(heads, heads, cos, sin)  # [tokens, heads, size]
    assert torch.allclose(heads_of(row, 0, 2, SIZE), expected[:, :2], atol=1e-6)
    assert torch.equal(heads_of(row, 2, 1, SIZE), heads[:, 2:])


def test_the_gradient_is_that_of_torch() -> None:
    heads, cos, sin = numbers()
    heads.requires_grad_()
    grad = torch.randn(TOKENS, HEADS, SIZE)
    (expected,) = torch.autograd.grad(apply_rotary_pos_emb(heads, heads, cos, sin)[0], heads, grad)
    row = grad.flatten(1).clone()
    Turn(cos[:, None], sin[:, None]).backward_(row, HEADS)
    assert torch.allclose(row.view_as(expected), expected, atol=1e-6)


def test_some_tokens_are_turned_by_their_own_positions() -> None:
    heads, cos, sin = numbers()
    turn, tokens = Turn(cos[:, None], sin[:, None]), torch.tensor([3, 1])
    whole, some = heads.flatten(1).clone(), heads.flatten(1)[tokens]
    turn.forward_(whole, HEADS)
    turn.of(tokens).forward_(some, HEADS)
    assert torch.equal(some, whole[tokens])


def test_it_is_computed_in_float32() -> None:
    heads, cos, sin = numbers()
    row = heads.flatten(1).bfloat16()
    exact = row.float()
    for given in (row, exact):
        Turn(cos[:, None], sin[:, None]).forward_(given, HEADS)
    assert torch.equal(row, exact.bfloat16())
    assert [wide(kind) for kind in (torch.bfloat16, torch.float32, torch.float64)] == [
        torch.float32, torch.float32, torch.float64,
    ]  # fmt: skip
