"""DoRA: its start, its gradients, the length of its rows, and both ways between us and peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
from transformers.pytorch_utils import Conv1D

from tests import toy
from tunesmith.core import delta, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import weight_of
from tunesmith.methods.dora import Dora, DoraLinear
from tunesmith.methods.low_rank import Strength
from tunesmith.models import artifact
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.train import checkpoint

INTEROP = ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama"]
SAME, EXACT = 1e-5, 1e-10

# peft asks the model for a property under a name that transformers has since changed.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def built(backbone: str = "builtin:tiny-bert", **method: Any) -> Prepared:
    return toy.prepared({"model": backbone, "method": {"name": "dora", **method}})


def shaken(model: nn.Module) -> nn.Module:
    """Move everything that was inserted, as if it were trained."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=noise)
    return model


def wrapped(base: nn.Module, rank: int = 2, scale: float = 0.5, dropout: float = 0.0) -> DoraLinear:
    return DoraLinear(base, rank, scale, dropout, torch.Generator().manual_seed(0))


def trained(base: nn.Module, **settings: Any) -> DoraLinear:
    return cast(DoraLinear, shaken(wrapped(base, **settings)))


def plain(toyed: Prepared, folder: Path) -> nn.Module:
    """The same backbone without our code: saved to a folder, and loaded by transformers alone."""
    load_backbone(toyed.recipe).model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def test_output_by_hand() -> None:
    base = nn.Linear(2, 1)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[3.0, 0.0]]))
        base.bias.fill_(0.5)
    made = wrapped(base, rank=1, scale=2.0)
    with torch.no_grad():
        made.lora_A.copy_(torch.tensor([[0.0, 1.0]]))
        made.lora_B.copy_(torch.tensor([[2.0]]))
    # W + s B A = (3, 4), of length 5, and m = |W| = 3: 3/5 * (3 * 10 + 4 * 5) + 0.5.
    x = torch.tensor([[10.0, 5.0]])
    assert made(x).item() == pytest.approx(30.5)
    made(x).sum().backward()
    # With the length a constant: dy/dm = 50 / 5, dy/dB = 3/5 * 2 * (A x) = 3/5 * 2 * 5, dy/dA = 3/5 * 2 * 2 * x.
    gradients = [
        cast(Tensor, p.grad).flatten().tolist() for p in (made.lora_magnitude_vector, made.lora_B, made.lora_A)
    ]
    assert gradients == [[pytest.approx(10)], [pytest.approx(6)], pytest.approx([24, 12])]
    assert cast(Tensor, made.merged().weight).flatten().tolist() == pytest.approx([1.8, 2.4])


def test_a_doubled_magnitude_doubles_the_output_without_the_bias() -> None:
    base = nn.Linear(6, 4)
    made = wrapped(base)
    x = torch.randn(5, 6)
    assert torch.equal(made(x), base(x))
    with torch.no_grad():
        made.lora_magnitude_vector *= 2
    assert torch.allclose(made(x) - base.bias, 2 * (base(x) - base.bias), atol=1e-6)


@pytest.mark.parametrize("kind", ["bias", "no bias", "conv1d"])
@pytest.mark.parametrize("stabilised", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_outputs_and_gradients_are_those_of_pefts_layer(kind: str, stabilised: bool, dropout: float) -> None:
    fan_in = kind == "conv1d"
    base = (Conv1D(4, 6) if fan_in else nn.Linear(6, 4, bias=kind == "bias")).double()
    if fan_in:
        nn.init.normal_(cast(Tensor, base.bias))  # at zero otherwise
    config = LoraConfig(
        r=3, lora_alpha=5, use_dora=True, use_rslora=stabilised, lora_dropout=dropout, fan_in_fan_out=fan_in
    )
    theirs = PeftLinear(base, "default", config, r=3, lora_alpha=5).double()
    scale = Strength(3, 5.0, {}, {}, stabilised).of("any")[1]
    ours = cast(DoraLinear, shaken(wrapped(base, rank=3, scale=scale, dropout=dropout).double()))
    pairs = [
        (ours.lora_A, theirs.lora_A["default"].weight),
        (ours.lora_B, theirs.lora_B["default"].weight),
        (ours.lora_magnitude_vector, theirs.lora_magnitude_vector["default"].weight),
    ]
    for mine, other in pairs:
        assert mine.shape == other.shape
        other.data.copy_(mine.data)
    x, dy = torch.randn(2, 5, 6).double(), torch.randn(2, 5, 4).double()
    grown = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = []
    for layer, given in zip((ours, theirs), grown, strict=True):
        torch.manual_seed(0)  # the same dropout
        outputs.append(layer(given))
        outputs[-1].backward(dy)
    assert torch.allclose(*outputs, atol=EXACT)
    for mine, other in [*pairs, (grown[0], grown[1])]:
        assert torch.allclose(cast(Tensor, mine.grad), cast(Tensor, other.grad), atol=EXACT)
    folded = weight_of(ours.merged())
    theirs.eval()
    theirs.merge()  # into the base, which is ours too
    assert torch.allclose(folded, weight_of(theirs.get_base_layer()), atol=EXACT)


@pytest.mark.parametrize("base", [nn.Linear(6, 4), Conv1D(4, 6)], ids=["linear", "conv1d"])
def test_rows_of_the_merged_weight_are_as_long_as_m(base: nn.Module) -> None:
    made = trained(base)
    before, x = weight_of(base).clone(), torch.randn(5, 6)
    folded = made.merged()
    assert type(folded) is type(base) and torch.equal(weight_of(base), before)
    assert torch.allclose(weight_of(folded).norm(dim=1), made.lora_magnitude_vector.abs(), atol=1e-6)
    assert torch.allclose(folded(x), made(x), atol=1e-6)


def test_a_row_of_zeros_stays_zero() -> None:
    base = nn.Linear(6, 4)
    with torch.no_grad():
        base.weight[1] = 0
    made, x = wrapped(base), torch.randn(5, 6)
    assert torch.equal(made(x), base(x))
    made(x).sum().backward()
    made.merged()(x).sum().backward()
    assert all(cast(Tensor, p.grad).isfinite().all() for p in (made.lora_A, made.lora_B, made.lora_magnitude_vector))


def test_a_low_precision_base_keeps_its_type_and_is_merged_in_float32() -> None:
    made = trained(nn.Linear(6, 4).bfloat16())
    assert {p.dtype for name, p in made.named_parameters() if "lora_" in name} == {torch.float32}
    assert made(torch.randn(2, 6).bfloat16()).dtype == torch.bfloat16
    turned = made.weight.float() + 0.5 * made.lora_B @ made.lora_A
    exact = made.lora_magnitude_vector[:, None] * nn.functional.normalize(turned, dim=1)
    assert torch.allclose(cast(Tensor, made.merged().weight).float(), exact, rtol=2**-8)


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_the_first_outputs_are_the_backbones(backbone: str) -> None:
    toyed = built(backbone, targets="all-linear")
    models = (toyed.training.model, load_backbone(toyed.recipe).model)
    for kind in (torch.float32, torch.float64):
        ours, expected = (toy.logits(model.to(kind), toyed.backbone.tokenizer) for model in models)
        assert (ours - expected).abs().max() <= 1e-6 * max(1, expected.abs().max())


def test_parameters_of_bert_base() -> None:
    # LoRA's of rank 8 on query and value (Hu et al., 2021, table 2), and 768 lengths for each of the 24.
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    method = Dora(rank=8)
    method.modify(model, torch.Generator())
    assert method.expected(model) == surgery.count(model)[0] == 294_912 + 24 * 768 + 768 * 2 + 2


def test_weight_decay_leaves_the_magnitude_alone() -> None:
    toyed = toy.prepared({"method": "dora", "train": {"weight_decay": 0.1}})
    decays = {name: group["weight_decay"] for group in toyed.training.optimizer.param_groups for name in group["names"]}
    assert {decay for name, decay in decays.items() if name.endswith("lora_magnitude_vector")} == {0.0}
    assert {decay for name, decay in decays.items() if name.endswith(("lora_A", "lora_B"))} == {0.1}


SETTINGS: dict[str, Any] = {"rank": 4, "alpha": 6.0}
PATTERNS: dict[str, Any] = {
    "targets": "all-linear",
    "rank": 2,
    "rank_pattern": {r".*\.1\..*": 3},
    "alpha_pattern": {r".*\.0\..*": 5.0},
    "rank_stabilised": True,
}


@OF_PEFT
@pytest.mark.parametrize("settings", [SETTINGS, PATTERNS], ids=["plain", "patterns"])
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
    toyed = built(backbone, **SETTINGS)
    fan_in = backbone == "builtin:tiny-gpt2"
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=6, use_dora=True, fan_in_fan_out=fan_in)
    theirs = shaken(get_peft_model(plain(toyed, tmp_path / "plain"), config).eval())
    for name, parameter in theirs.named_parameters():
        if "modules_to_save" in name:
            nn.init.normal_(parameter, std=0.1)
    cast(PeftModel, theirs).save_pretrained(tmp_path / "delta")
    delta.read(toyed.training.model, toyed.recipe.method, tmp_path / "delta")
    expected = toy.logits(theirs, toyed.backbone.tokenizer)
    assert (toy.logits(toyed.training.model, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


def test_it_may_start_from_another_delta_but_not_from_loras(tmp_path: Path) -> None:
    first = built(**SETTINGS)
    shaken(first.training.model)
    folder = toy.save(first, tmp_path / "delta")
    second = toy.prepared({"method": {"name": "dora", **SETTINGS, "start": str(folder)}, "train": {"seed": 3}})
    second.recipe.method.setup(second.training)
    before, after = (checkpoint.weights(toyed.training) for toyed in (first, second))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    other = toy.save(toy.prepared({"method": {"name": "lora", **SETTINGS}}), tmp_path / "lora")
    with pytest.raises(ModelError, match=r"use_dora=False \(the method: True\)"):
        delta.read(second.training.model, second.recipe.method, other)


@pytest.mark.parametrize("settings", [{"rank_pattern": {"value": 0}}, {"alpha_pattern": {"value": -1.0}}], ids=str)
def test_patterns_need_numbers_above_zero(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"_pattern\s+Value error, needs numbers above 0, not \{'value'"):
        Dora(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rank": 33}, r"rank 33 is larger than the layer bert\.encoder.*, which is 32 by 32"),
        ({"targets": "quer"}, r"method\.targets 'quer' matches no linear"),
        ({"rank_pattern": {"key": 2}}, r"rank_pattern 'key' matches none of the chosen places"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        built(**settings)
