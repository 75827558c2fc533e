"""The layers of low rank: their start, their gradients, their scale, and how strong each is."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from peft.tuners.lora import Embedding as PeftEmbedding
from peft.tuners.lora import Linear as PeftLinear
from peft.tuners.lora import LoraConfig
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.core.errors import ModelError
from tunesmith.core.linear import weight_of
from tunesmith.methods.low_rank import LoraEmbedding, LoraLinear, Strength, principal


def wrapped(base: nn.Module, rank: int = 2, scale: float = 0.5, dropout: float = 0.0) -> LoraLinear:
    """A wrapper whose B is no longer zero."""
    made = LoraLinear(base, rank, scale, dropout, torch.Generator().manual_seed(0))
    nn.init.normal_(made.lora_B)
    return made


def test_a_starts_uniform_and_b_at_zero() -> None:
    made = LoraLinear(nn.Linear(400, 30), 50, 1.0, 0.0, torch.Generator().manual_seed(0))
    # A uniform variable in ±b has the standard deviation b / sqrt(3); b = 1 / sqrt(400).
    assert made.lora_A.shape == (50, 400) and made.lora_A.abs().max() <= 1 / 20
    assert made.lora_A.std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.01)
    assert made.lora_B.shape == (30, 50) and not made.lora_B.any()


def test_output_by_hand() -> None:
    base = nn.Linear(2, 1)
    made = wrapped(base, rank=1, scale=3.0)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 2.0]]))
        base.bias.fill_(0.5)
        made.lora_A.copy_(torch.tensor([[2.0, -1.0]]))
        made.lora_B.copy_(torch.tensor([[4.0]]))
    # 1*10 + 2*7 + 0.5 = 24.5, and 3 * 4 * (2*10 - 7) = 156.
    assert made(torch.tensor([[10.0, 7.0]])).item() == pytest.approx(180.5)


def test_gradients_at_step_0() -> None:
    made = LoraLinear(nn.Linear(4, 3), 2, 0.5, 0.0, torch.Generator().manual_seed(0))
    x, dy = torch.randn(5, 4), torch.randn(5, 3)
    made(x).backward(dy)
    assert made.lora_A.grad is not None and not made.lora_A.grad.any()
    assert torch.allclose(cast(Tensor, made.lora_B.grad), 0.5 * dy.T @ (x @ made.lora_A.T))


def test_dropout_touches_the_low_rank_branch_alone() -> None:
    made = wrapped(nn.Linear(64, 8), dropout=0.5)
    x = torch.randn(3, 64)
    assert not torch.equal(made(x), made(x))
    with torch.no_grad():
        made.lora_B.zero_()
    assert torch.equal(made(x), made.base(x))
    assert torch.equal(made.eval()(x), made(x))


@pytest.mark.parametrize("base", [nn.Linear(6, 4), Conv1D(4, 6)], ids=["linear", "conv1d"])
def test_merged_has_the_scale_once(base: nn.Module) -> None:
    made = wrapped(base)
    before = base.weight.clone()  # type: ignore[operator]
    x = torch.randn(5, 6)
    folded = made.merged()
    assert type(folded) is type(base)
    assert torch.allclose(folded(x), made(x), atol=1e-6)
    assert torch.equal(cast(Tensor, base.weight), before)


def test_a_low_precision_base_keeps_its_type_and_is_merged_in_float32() -> None:
    made = wrapped(nn.Linear(6, 4).bfloat16())
    assert made.lora_A.dtype == torch.float32
    assert made(torch.randn(2, 6).bfloat16()).dtype == torch.bfloat16
    exact = made.weight.float() + 0.5 * made.lora_B @ made.lora_A
    assert torch.equal(cast(Tensor, made.merged().weight), exact.bfloat16())


@pytest.mark.parametrize("conv", [False, True], ids=["linear", "conv1d"])
@pytest.mark.parametrize("stabilised", [False, True])
def test_outputs_and_gradients_are_those_of_pefts_layer(conv: bool, stabilised: bool) -> None:
    base = (Conv1D(4, 6) if conv else nn.Linear(6, 4)).double()
    config = LoraConfig(r=3, lora_alpha=5, use_rslora=stabilised, fan_in_fan_out=conv)
    theirs = PeftLinear(base, "default", config, r=3, lora_alpha=5).double()
    ours = wrapped(base, rank=3, scale=Strength(3, 5.0, {}, {}, stabilised).of("any")[1]).double()
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(ours.lora_A)
        theirs.lora_B["default"].weight.copy_(ours.lora_B)
    x, dy = torch.randn(5, 6).double(), torch.randn(5, 4).double()
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)
    ours(x).backward(dy)
    theirs(x).backward(dy)
    for mine, other in ((ours.lora_A, theirs.lora_A), (ours.lora_B, theirs.lora_B)):
        assert torch.allclose(cast(Tensor, mine.grad), cast(Tensor, other["default"].weight.grad), atol=1e-12)
    assert torch.allclose(weight_of(ours.merged()), weight_of(base) + theirs.get_delta_weight("default").view_as(
        base.weight).T if conv else weight_of(base) + theirs.get_delta_weight("default"))  # fmt: skip


def test_embeddings_are_those_of_pefts_layer() -> None:
    base = nn.Embedding(11, 4).double()
    theirs = PeftEmbedding(base, "default", LoraConfig(r=2, lora_alpha=6), r=2, lora_alpha=6).double()
    ours = LoraEmbedding(base, 2, 3.0, torch.Generator().manual_seed(0)).double()
    ids = torch.tensor([[1, 7, 7], [0, 10, 3]])
    assert torch.equal(ours(ids), base(ids))
    nn.init.normal_(ours.lora_embedding_A)
    with torch.no_grad():
        theirs.lora_embedding_A["default"].copy_(ours.lora_embedding_A)
        theirs.lora_embedding_B["default"].copy_(ours.lora_embedding_B)
    assert torch.allclose(ours(ids), theirs(ids), atol=1e-12)
    ours(ids).square().sum().backward()
    theirs(ids).square().sum().backward()
    assert torch.allclose(
        cast(Tensor, ours.lora_embedding_A.grad), cast(Tensor, theirs.lora_embedding_A["default"].grad), atol=1e-10
    )
    assert torch.allclose(
        cast(Tensor, ours.lora_embedding_B.grad), cast(Tensor, theirs.lora_embedding_B["default"].grad), atol=1e-10
    )
    assert torch.allclose(ours.merged()(ids), ours(ids), atol=1e-5)


def test_the_principal_part_has_the_largest_singular_values() -> None:
    weight = torch.randn(7, 5)
    a, b = principal(weight, 2, 0.5)
    values = torch.linalg.svdvals(weight)
    assert torch.allclose(torch.linalg.svdvals(0.5 * b @ a)[:2], values[:2], atol=1e-5)
    # What is left has the others: the best approximation of that rank (Eckart and Young, 1936).
    assert torch.allclose(torch.linalg.svdvals(weight - 0.5 * b @ a)[:3], values[2:], atol=1e-5)


@pytest.mark.filterwarnings("ignore:Initializing PiSSA:UserWarning")
def test_a_start_from_the_principal_part_is_that_of_peft() -> None:
    base = nn.Linear(6, 4)
    x = torch.randn(5, 6)
    before = base(x)
    ours = LoraLinear(base, 2, 2.0, 0.0, torch.Generator())
    ours.start_from(*principal(weight_of(base), 2, 2.0))
    assert torch.equal(ours(x), before)
    config = LoraConfig(r=2, lora_alpha=4, init_lora_weights="pissa")
    copied = nn.Linear(6, 4)
    copied.load_state_dict(base.state_dict())
    theirs = PeftLinear(copied, "default", config, r=2, lora_alpha=4, init_lora_weights="pissa")
    product = theirs.lora_B["default"].weight @ theirs.lora_A["default"].weight
    assert torch.allclose(ours.lora_B @ ours.lora_A, product, atol=1e-5)
    # The same step from the same pair leads to the same outputs: theirs on the residual, ours with the start taken off.
    with torch.no_grad():
        ours.lora_A += 0.1
        ours.lora_B -= 0.2
        theirs.lora_A["default"].weight.copy_(ours.lora_A)
        theirs.lora_B["default"].weight.copy_(ours.lora_B)
        residual = weight_of(base) - 2.0 * cast(Tensor, ours.start_B) @ cast(Tensor, ours.start_A)
        cast(nn.Linear, theirs.base_layer).weight.copy_(residual)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert torch.allclose(ours.merged()(x), ours(x), atol=1e-5)
    a, b = ours.factors()
    assert a.shape == (4, 6) and b.shape == (4, 4)
    assert torch.allclose(2.0 * b @ a, ours.delta(), atol=1e-6)


def test_strengths_by_hand() -> None:
    strength = Strength(4, 8.0, {"value": 2}, {"layer.1.*": 3.0}, stabilised=False)
    assert strength.of("bert.layer.0.query") == (4, 2.0)
    assert strength.of("bert.layer.0.value") == (2, 4.0)
    assert strength.of("bert.layer.1.query") == (4, 0.75)
    stabilised = Strength(4, 8.0, {"value": 16}, {}, stabilised=True)
    assert stabilised.of("query") == (4, 4.0) and stabilised.of("layer.value") == (16, 2.0)


@pytest.mark.parametrize(
    ("strength", "told"),
    [
        (Strength(2, 1.0, {"valeu": 2}, {}, False), r"rank_pattern 'valeu' matches none.*"),
        (Strength(2, 1.0, {}, {"(": 2.0}, False), r"alpha_pattern '\(' is no pattern"),
        (Strength(5, 1.0, {}, {}, False), r"rank 5 is larger than the layer layer.value, which is 6 by 4"),
        (Strength(2, 1.0, {"value": 9}, {}, False), r"rank 9 is larger than the layer layer.value"),
    ],
)
def test_what_does_not_fit_is_refused(strength: Strength, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        strength.check({"layer.value": nn.Linear(6, 4)})
