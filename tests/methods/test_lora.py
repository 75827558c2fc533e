"""LoRA: its start, its gradients, its scale, and both ways between us and peft."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
from transformers.pytorch_utils import Conv1D

from tests import toy
from tunesmith.core import delta, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.delta import CONFIG, WEIGHTS
from tunesmith.methods.lora import Lora
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.train import checkpoint

INTEROP = ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama", "builtin:minilm"]
SAME = 1e-5

# peft asks the model for a property under a name that transformers has since changed.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def wrapped(base: nn.Module, rank: int = 2, scale: float = 0.5, dropout: float = 0.0) -> LoraLinear:
    """A wrapper whose B is no longer zero."""
    made = LoraLinear(base, rank, scale, dropout, torch.Generator().manual_seed(0))
    nn.init.normal_(made.lora_B)
    return made


def built(backbone: str = "builtin:tiny-bert", **method: Any) -> Prepared:
    return toy.prepared({"model": backbone, "method": {"name": "lora", **method}})


def started(toyed: Prepared) -> Prepared:
    """Give every B random values, as if it were trained."""
    for wrapper in surgery.wrappers(toyed.training.model).values():
        nn.init.normal_(cast(LoraLinear, wrapper).lora_B, std=0.1)
    return toyed


def plain(toyed: Prepared, folder: Path) -> nn.Module:
    """The same backbone without our code: saved to a folder, and loaded by transformers alone."""
    load_backbone(toyed.recipe).model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


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


@pytest.mark.parametrize(
    ("backbone", "targets", "count"),
    [
        ("builtin:tiny-bert", "attention", 4),  # query and value of two blocks
        ("builtin:tiny-bert", "all-linear", 12),  # and key, attention output, both of the feed-forward
        ("builtin:tiny-bert", r".*layer\.1\..*query", 1),
        ("builtin:tiny-gpt2", "attention", 2),  # one matrix makes query, key and value
        ("builtin:tiny-gpt2", "all-linear", 8),
        ("builtin:tiny-llama", "attention", 4),
        ("builtin:tiny-llama", "all-linear", 14),
        ("builtin:tiny-t5", "attention", 12),  # two encoder blocks, two decoder blocks with two attentions each
    ],
)
def test_targets(backbone: str, targets: str, count: int) -> None:
    assert len(surgery.wrappers(built(backbone, targets=targets).training.model)) == count


@pytest.mark.parametrize("targets", ["no_such_linear", "quer", "(", ""])
def test_targets_that_match_nothing_are_refused(targets: str) -> None:
    # "quer" matches a part of a word, never a whole one.
    with pytest.raises(ModelError, match=r"method\.targets"):
        built(targets=targets)


@pytest.mark.parametrize(("targets", "published"), [("attention", 294_912), ("all-linear", 1_327_104)])
def test_parameters_of_bert_base(targets: str, published: int) -> None:
    # Hu et al., 2021, table 2 gives 0.3 million for rank 8 on query and value of a base model: 24 * 8 * (768 + 768).
    # All six linears a block: 12 * 8 * (4 * (768 + 768) + 2 * (768 + 3072)).
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    method = Lora(rank=8, targets=targets)
    method.modify(model, torch.Generator())
    head = 768 * 2 + 2
    assert method.expected(model) == published + head
    assert surgery.count(model)[0] == published + head


def test_the_start_follows_the_seed() -> None:
    starts = []
    for seed in (0, 0, 1):
        toyed = toy.prepared({"method": "lora", "train": {"seed": seed}})
        starts.append(toyed.training.model.get_parameter("bert.encoder.layer.0.attention.self.query.lora_A"))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@OF_PEFT
@pytest.mark.parametrize("backbone", INTEROP)
def test_our_delta_loads_in_peft(backbone: str, tmp_path: Path) -> None:
    toyed = started(built(backbone, rank=4, alpha=8.0))
    toy.save(toyed, tmp_path / "delta")
    theirs = PeftModel.from_pretrained(plain(toyed, tmp_path / "plain"), str(tmp_path / "delta"))
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    assert (toy.logits(theirs, toyed.backbone.tokenizer) - expected).abs().max() <= SAME
    merged = theirs.merge_and_unload()
    toyed.recipe.method.merge(toyed.training.model)
    ours = toyed.training.model.state_dict()
    for name, tensor in merged.state_dict().items():
        assert torch.allclose(ours[name], tensor, atol=1e-6), name
    assert set(ours) == set(merged.state_dict())


@OF_PEFT
@pytest.mark.parametrize("backbone", INTEROP)
def test_a_delta_of_peft_loads_here(backbone: str, tmp_path: Path) -> None:
    toyed = built(backbone, rank=4, alpha=8.0)
    fan_in = backbone == "builtin:tiny-gpt2"
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, fan_in_fan_out=fan_in)
    theirs = get_peft_model(plain(toyed, tmp_path / "plain"), config).eval()
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad and "lora_A" not in name:
            nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path / "delta")
    delta.read(toyed.training.model, toyed.recipe.method, tmp_path / "delta")
    expected = toy.logits(theirs, toyed.backbone.tokenizer)
    assert (toy.logits(toyed.training.model, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


def saved(folder: Path) -> Path:
    toyed = built(rank=4)
    folder.mkdir()
    delta.write(toyed.training.model, toyed.recipe.method, folder, "somewhere")
    return folder


@pytest.mark.parametrize(
    ("change", "told"),
    [({"r": 2}, "r=2"), ({"lora_alpha": 1}, "lora_alpha=1"), ({"use_dora": True}, "use_dora")],
)
def test_another_kind_of_delta_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "delta")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=told):
        toyed = built(rank=4)
        delta.read(toyed.training.model, toyed.recipe.method, folder)


def test_a_delta_for_other_linears_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "delta")
    toyed = built(rank=4, targets="all-linear")
    with pytest.raises(ModelError, match=r"16 tensors missing.*0 not wanted"):
        delta.read(toyed.training.model, toyed.recipe.method, folder)


def test_it_may_start_from_another_delta(tmp_path: Path) -> None:
    first = started(built(rank=4))
    folder = toy.save(first, tmp_path / "delta")
    second = toy.prepared({"method": {"name": "lora", "rank": 4, "start": str(folder)}, "train": {"seed": 3}})
    second.recipe.method.setup(second.training)
    before, after = (checkpoint.weights(toyed.training) for toyed in (first, second))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_start_that_is_no_delta_is_refused(tmp_path: Path) -> None:
    toyed = built(start=str(tmp_path))
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors and no adapter_config\.json"):
        toyed.recipe.method.setup(toyed.training)
    folder = saved(tmp_path / "delta")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is damaged"):
        delta.read(toyed.training.model, toyed.recipe.method, folder)


def test_a_delta_with_a_head_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "delta")
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.classifier.bias"] = torch.zeros(7)
    save_file(tensors, folder / WEIGHTS)
    toyed = built(rank=4)
    before = toy.weights(toyed)
    with pytest.raises(ModelError, match=r"classifier\.bias"):
        delta.read(toyed.training.model, toyed.recipe.method, folder)
    assert all(torch.equal(before[name], tensor) for name, tensor in toy.weights(toyed).items())
