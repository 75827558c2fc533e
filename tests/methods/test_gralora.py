"""GraLoRA: its grid of blocks, the swap between them, its gradients, and both ways between us and peft."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import GraloraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.gralora.layer import Linear as PeftLinear
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
from transformers.pytorch_utils import Conv1D

from tests import toy
from tunesmith.core import delta, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import weight_of
from tunesmith.methods.gralora import Gralora, GraloraLinear
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.models import artifact
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.train import checkpoint

INTEROP = ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama"]
SAME, EXACT = 1e-5, 1e-10

# peft asks the model for a property under a name that transformers has since changed.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def built(backbone: str = "builtin:tiny-bert", **method: Any) -> Prepared:
    return toy.prepared({"model": backbone, "method": {"name": "gralora", **method}})


def wrapped(base: nn.Module, **settings: Any) -> GraloraLinear:
    return GraloraLinear(base, Gralora(**settings), torch.Generator().manual_seed(0))


def shaken(model: nn.Module) -> nn.Module:
    """Move everything that was inserted, as if it were trained."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gralora_" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=noise)
    return model


def trained(base: nn.Module, **settings: Any) -> GraloraLinear:
    return cast(GraloraLinear, shaken(wrapped(base, **settings)))


def plain(toyed: Prepared, folder: Path) -> nn.Module:
    """The same backbone without our code: saved to a folder, and loaded by transformers alone."""
    load_backbone(toyed.recipe).model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def test_a_starts_uniform_and_b_at_zero() -> None:
    made = wrapped(nn.Linear(400, 40), rank=40, hybrid_rank=30, blocks=4)
    # A uniform variable in ±b has the standard deviation b / sqrt(3); b = sqrt(4 / 400), and 1 / sqrt(400).
    assert made.gralora_A.shape == (4, 100, 40) and made.gralora_A.abs().max() <= 0.1
    assert made.gralora_A.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.02)
    general = cast(Tensor, made.gralora_A_general)
    assert general.shape == (30, 400) and general.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.02)
    assert made.gralora_B.shape == (4, 40, 10) and not made.gralora_B.any()
    assert not cast(Tensor, made.gralora_B_general).any()


def test_the_grid_by_hand() -> None:
    base = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(base.weight)
    made = wrapped(base, rank=2, blocks=2, alpha=2.0)
    with torch.no_grad():
        # A[j]: two inputs of slice j by two columns, the first for slice 0 of the outputs, the second for slice 1.
        made.gralora_A.copy_(torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]))
        # B[i]: two rows, the first for slice 0 of the inputs, the second for slice 1, by two outputs of slice i.
        made.gralora_B.copy_(torch.tensor([[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [4.0, 40.0]]]))
    # Block (i, j) is the j-th row of B[i], standing, times the i-th column of A[j], lying: (0, 1) is (2, 20) x (5, 7).
    by_hand = torch.tensor(
        [
            [1.0 * 1, 1 * 3, 2 * 5, 2 * 7],
            [10 * 1, 10 * 3, 20 * 5, 20 * 7],
            [3 * 2, 3 * 4, 4 * 6, 4 * 8],
            [30 * 2, 30 * 4, 40 * 6, 40 * 8],
        ]
    )
    assert torch.equal(made.delta(), by_hand)
    assert torch.equal(made(torch.eye(4)), by_hand.T)
    assert torch.equal(weight_of(made.merged()), by_hand)


def test_one_block_is_lora() -> None:
    base = nn.Linear(6, 4)
    made = trained(base, rank=3, blocks=1, alpha=6.0)
    lora = LoraLinear(base, 3, 2.0, 0.0, torch.Generator())
    with torch.no_grad():
        lora.lora_A.copy_(made.gralora_A[0].T)
        lora.lora_B.copy_(made.gralora_B[0].T)
    x = torch.randn(2, 5, 6)
    assert torch.allclose(made(x), lora(x), atol=1e-6)
    assert torch.allclose(made.delta(), lora.delta(), atol=1e-6)


@pytest.mark.parametrize("kind", ["bias", "no bias", "conv1d"])
@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("hybrid", [0, 3])
def test_outputs_and_gradients_are_those_of_pefts_layer(kind: str, blocks: int, hybrid: int) -> None:
    fan_in = kind == "conv1d"
    base = (Conv1D(8, 12) if fan_in else nn.Linear(12, 8, bias=kind == "bias")).double()
    config = GraloraConfig(r=4, hybrid_r=hybrid, gralora_k=blocks, alpha=5, fan_in_fan_out=fan_in)
    theirs = PeftLinear(base, "default", "place", config, r=4).double()
    made = trained(base, rank=4, hybrid_rank=hybrid, blocks=blocks, alpha=5.0)
    ours = made.double()
    pairs = [(ours.gralora_A, theirs.gralora_A["default"]), (ours.gralora_B, theirs.gralora_B["default"])]
    if hybrid:
        pairs.append((ours.gralora_A_general, theirs.gralora_A_general["default"].weight))
        pairs.append((ours.gralora_B_general, theirs.gralora_B_general["default"].weight))
    for mine, other in pairs:
        assert mine.shape == other.shape
        other.data.copy_(mine.data)
    x, dy = torch.randn(2, 5, 12).double(), torch.randn(2, 5, 8).double()
    grown = (x.clone().requires_grad_(), x.clone().requires_grad_())
    outputs = [layer(given) for layer, given in zip((ours, theirs), grown, strict=True)]
    assert torch.allclose(*outputs, atol=EXACT)
    for output in outputs:
        output.backward(dy)
    for mine, other in [*pairs, grown]:
        assert torch.allclose(cast(Tensor, mine.grad), cast(Tensor, other.grad), atol=EXACT)
    weight = theirs.get_delta_weight("default").detach()
    assert torch.allclose(ours.delta(), weight.T if fan_in else weight, atol=EXACT)


@pytest.mark.parametrize("base", [nn.Linear(12, 8), Conv1D(8, 12)], ids=["linear", "conv1d"])
def test_merged_is_attached(base: nn.Module) -> None:
    made = trained(base, rank=4, hybrid_rank=2, blocks=2)
    before, x = weight_of(base).clone(), torch.randn(5, 12)
    folded = made.merged()
    assert type(folded) is type(base) and torch.equal(weight_of(base), before)
    assert torch.allclose(folded(x), made(x), atol=1e-5)


def test_a_low_precision_base_keeps_its_type_and_is_merged_in_float32() -> None:
    made = trained(nn.Linear(12, 8).bfloat16(), rank=4, hybrid_rank=2)
    assert {p.dtype for name, p in made.named_parameters() if "gralora_" in name} == {torch.float32}
    assert made(torch.randn(2, 12).bfloat16()).dtype == torch.bfloat16
    assert torch.equal(cast(Tensor, made.merged().weight), (made.weight.float() + made.delta()).bfloat16())


@pytest.mark.parametrize(("blocks", "hybrid", "rank"), [(1, 0, 4), (2, 0, 8), (4, 0, 16), (2, 3, 11), (4, 8, 20)])
def test_the_rank_grows_with_the_blocks(blocks: int, hybrid: int, rank: int) -> None:
    # k r of the blocks and h of the plain pair, of 20 at most.
    made = trained(nn.Linear(24, 20), rank=4, hybrid_rank=hybrid, blocks=blocks).double()
    assert torch.linalg.matrix_rank(made.delta()).item() == rank


def test_an_outlier_touches_the_blocks_of_its_slice_alone() -> None:
    made = trained(nn.Linear(12, 8), rank=4, blocks=2)
    x, dy = torch.randn(5, 12), torch.randn(5, 8)
    far = x.clone()
    far[:, 7] += 100  # of slice 1 of the inputs
    gradients = []
    for given in (x, far):
        made.zero_grad()
        made(given).backward(dy)
        gradients.append([cast(Tensor, p.grad).clone() for p in (made.gralora_A, made.gralora_B)])
    (a, b), (far_a, far_b) = gradients
    assert torch.equal(a[0], far_a[0]) and not torch.allclose(a[1], far_a[1])
    # Rows 0 and 1 of every B[i] belong to slice 0 of the inputs, rows 2 and 3 to slice 1.
    assert torch.allclose(b[:, :2], far_b[:, :2]) and not torch.isclose(b[:, 2:], far_b[:, 2:]).any()


def test_dropout_touches_the_low_rank_branch_alone() -> None:
    made = trained(nn.Linear(64, 8), rank=4, hybrid_rank=2, dropout=0.5)
    x = torch.randn(3, 64)
    assert not torch.equal(made(x), made(x))
    assert torch.equal(made.eval()(x), made(x))
    made.active = False
    assert torch.equal(made.train()(x), made.base(x))


@pytest.mark.parametrize("blocks", [1, 2, 4, 8])
def test_parameters_do_not_depend_on_the_blocks(blocks: int) -> None:
    # (16 + 8) times in + out: 12 blocks of BERT-base, four linears of 768 by 768 and two of 768 by 3072.
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    method = Gralora(rank=16, hybrid_rank=8, blocks=blocks)
    method.modify(model, torch.Generator())
    linears = 24 * 12 * (4 * (768 + 768) + 2 * (768 + 3072))
    assert method.expected(model) == surgery.count(model)[0] == linears + 768 * 2 + 2


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_the_first_outputs_are_the_backbones(backbone: str) -> None:
    toyed = built(backbone, hybrid_rank=8)
    expected = toy.logits(load_backbone(toyed.recipe).model, toyed.backbone.tokenizer)
    assert torch.equal(toy.logits(toyed.training.model, toyed.backbone.tokenizer), expected)


SETTINGS: list[dict[str, Any]] = [
    {"rank": 8, "blocks": 4, "alpha": 8.0},
    {"rank": 4, "hybrid_rank": 3, "alpha": 6.0, "targets": "attention"},
]


@OF_PEFT
@pytest.mark.parametrize("settings", SETTINGS, ids=["blocks", "hybrid"])
@pytest.mark.parametrize("backbone", INTEROP)
def test_our_delta_loads_in_peft(backbone: str, settings: dict[str, Any], tmp_path: Path) -> None:
    toyed = built(backbone, **settings)
    shaken(toyed.training.model)
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    folder, recipe = toy.save(toyed, tmp_path / "delta"), toyed.recipe
    loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    assert torch.equal(toy.logits(loaded.model, loaded.tokenizer), expected)
    theirs = PeftModel.from_pretrained(plain(toyed, tmp_path / "plain"), str(folder))
    assert (toy.logits(theirs, toyed.backbone.tokenizer) - expected).abs().max() <= SAME
    merged, ours = theirs.merge_and_unload().state_dict(), toyed.training.model
    recipe.method.merge(ours)
    assert set(ours.state_dict()) == set(merged)
    assert all(torch.allclose(tensor, merged[name], atol=1e-6) for name, tensor in ours.state_dict().items())
    assert (toy.logits(ours, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


@OF_PEFT
@pytest.mark.parametrize("backbone", INTEROP)
def test_a_delta_of_peft_loads_here(backbone: str, tmp_path: Path) -> None:
    toyed = built(backbone, rank=4, hybrid_rank=2, blocks=2, alpha=8.0)
    config = GraloraConfig(
        task_type=TaskType.SEQ_CLS,
        r=4,
        hybrid_r=2,
        alpha=8,
        target_modules=sorted(surgery.wrappers(toyed.training.model)),
        fan_in_fan_out=backbone == "builtin:tiny-gpt2",
    )
    theirs = shaken(get_peft_model(plain(toyed, tmp_path / "plain"), config).eval())
    for name, parameter in theirs.named_parameters():
        if "modules_to_save" in name:
            nn.init.normal_(parameter, std=0.1)
    cast(PeftModel, theirs).save_pretrained(tmp_path / "delta")
    delta.read(toyed.training.model, toyed.recipe.method, tmp_path / "delta")
    expected = toy.logits(theirs, toyed.backbone.tokenizer)
    assert (toy.logits(toyed.training.model, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


def test_it_may_start_from_another_delta_of_the_same_grid(tmp_path: Path) -> None:
    first = built(rank=8, blocks=4)
    shaken(first.training.model)
    folder = toy.save(first, tmp_path / "delta")
    second = toy.prepared(
        {"method": {"name": "gralora", "rank": 8, "blocks": 4, "start": str(folder)}, "train": {"seed": 3}}
    )
    second.recipe.method.setup(second.training)
    before, after = (checkpoint.weights(toyed.training) for toyed in (first, second))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    other = built(rank=8, blocks=2)
    with pytest.raises(ModelError, match=r"gralora_k=4 \(the method: 2\)"):
        delta.read(other.training.model, other.recipe.method, folder)


def test_a_rank_that_the_blocks_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rank 16 can't be shared by 3 blocks; blocks may be 2, 4, 1, 8, 16"):
        Gralora(blocks=3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"rank": 24, "blocks": 3},
            r"blocks 3 does not divide the layer bert\.encoder\S+query, which is 32 by 32; "
            r"rank 24 and the chosen layers allow 2, 4, 1, 8\.$",
        ),
        ({"rank": 34}, r"rank 34 is larger than the layer bert\.encoder.*, which is 32 by 32"),
        ({"hybrid_rank": 33}, r"hybrid_rank 33 is larger than the layer bert\.encoder.*, which is 32 by 32"),
        ({"targets": "quer"}, r"method\.targets 'quer' matches no linear"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError) as refusal:
        built(**settings)
    assert re.search(told, refusal.value.message)
