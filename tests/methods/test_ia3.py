"""IA3: parity with peft's layers, both ways between us and peft, and what the vectors do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import IA3Config, PeftModel, TaskType, get_peft_model
from peft.tuners.ia3.layer import Linear as PeftLinear
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2Model,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5EncoderModel,
)
from transformers.pytorch_utils import Conv1D

from tests import toy
from tunesmith.core import anatomy, delta, surgery
from tunesmith.core.delta import CONFIG
from tunesmith.core.errors import ModelError
from tunesmith.methods.ia3 import Ia3, ScaledLinear
from tunesmith.prepare import Prepared, load_backbone

SAME = 1e-5
# What peft must be told to place its vectors where we place ours; for gpt2 and llama its own defaults do.
PLACES: dict[str, dict[str, Any]] = {
    "tiny-bert": {
        "target_modules": r".*\.(key|value|layer\.\d\.output\.dense)",
        "feedforward_modules": r".*\.layer\.\d\.output\.dense",
    },
    "tiny-gpt2": {"fan_in_fan_out": True},
    "tiny-llama": {},
    "tiny-t5": {"modules_to_save": ["classification_head"]},
}
# peft asks the model for a property under a name that transformers has since changed.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def built(backbone: str) -> Prepared:
    return toy.prepared({"model": f"builtin:{backbone}", "method": "ia3"})


def scaled(model: nn.Module) -> dict[str, ScaledLinear]:
    return cast(dict[str, ScaledLinear], surgery.wrappers(model))


def moved(toyed: Prepared) -> Prepared:
    """Move every vector, and the head, as if they were trained."""
    for parameter in surgery.trained(toyed.training.model).values():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return toyed


def plain(toyed: Prepared, folder: Path) -> nn.Module:
    """The same backbone without our code: saved to a folder, and loaded by transformers alone."""
    load_backbone(toyed.recipe).model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("make", [lambda: nn.Linear(5, 7), lambda: Conv1D(7, 5), lambda: nn.Linear(5, 7, bias=False)])
def test_parity_with_peft_in_float64(make: Any, inputs: bool) -> None:
    torch.manual_seed(0)
    base = make()
    ours = ScaledLinear(base, inputs).double()
    config = IA3Config(fan_in_fan_out=isinstance(base, Conv1D))
    theirs = PeftLinear(base, "default", config, is_feedforward=inputs).double()
    ours.ia3_l.data.normal_()
    theirs.ia3_l["default"].data.copy_(ours.ia3_l.data.view(theirs.ia3_l["default"].shape))
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    found = []
    for layer, vector in ((ours, ours.ia3_l), (theirs, theirs.ia3_l["default"])):
        entering = x.clone().requires_grad_()
        out = layer(entering)
        out.square().sum().backward()
        found.append((out, entering.grad, cast(Tensor, vector.grad).flatten()))
    for mine, peft in zip(*found, strict=True):
        assert torch.allclose(mine, peft, atol=1e-6, rtol=0)
    merged = ours.merged()
    assert type(merged) is type(base) and torch.allclose(merged(x), found[0][0], atol=1e-12)
    theirs.merge()
    assert torch.allclose(cast(Tensor, merged.weight), theirs.base_layer.weight, atol=1e-12)


@OF_PEFT
@pytest.mark.parametrize("backbone", PLACES)
def test_our_delta_loads_in_peft(backbone: str, tmp_path: Path) -> None:
    toyed = moved(built(backbone))
    model, tokenizer = toyed.training.model, toyed.backbone.tokenizer
    expected = toy.logits(model, tokenizer)
    assert (toy.logits(load_backbone(toyed.recipe).model, tokenizer) - expected).abs().max() > 0.01
    toy.save(toyed, tmp_path / "delta")
    theirs = PeftModel.from_pretrained(plain(toyed, tmp_path / "plain"), str(tmp_path / "delta"))
    assert (toy.logits(theirs, tokenizer) - expected).abs().max() <= SAME
    toyed.recipe.method.merge(model)
    if backbone == "tiny-t5":  # peft can't merge beside a head of several layers
        assert (toy.logits(model, tokenizer) - expected).abs().max() <= SAME
        return
    merged, ours = theirs.merge_and_unload().state_dict(), model.state_dict()
    assert set(ours) == set(merged)
    assert all(torch.allclose(ours[name], tensor, atol=1e-6) for name, tensor in merged.items())


@OF_PEFT
@pytest.mark.parametrize("backbone", PLACES)
def test_a_delta_of_peft_loads_here(backbone: str, tmp_path: Path) -> None:
    toyed = built(backbone)
    config = IA3Config(task_type=TaskType.SEQ_CLS, **PLACES[backbone])
    theirs = get_peft_model(plain(toyed, tmp_path / "plain"), config).eval()
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "delta")
    delta.read(toyed.training.model, toyed.recipe.method, tmp_path / "delta")
    expected = toy.logits(theirs, toyed.backbone.tokenizer)
    assert (toy.logits(toyed.training.model, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


@OF_PEFT
def test_the_delta_of_pefts_default_for_bert_is_refused(tmp_path: Path) -> None:
    # Its "output.dense" is also the end of attention.output.dense: one vector a block more.
    toyed = built("tiny-bert")
    get_peft_model(plain(toyed, tmp_path / "plain"), IA3Config(task_type=TaskType.SEQ_CLS)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"0 tensors missing .* 2 not wanted .*attention\.output\.dense"):
        delta.read(toyed.training.model, toyed.recipe.method, tmp_path)


def test_the_file_names_whole_paths(tmp_path: Path) -> None:
    config = json.loads((toy.save(built("tiny-bert"), tmp_path / "delta") / CONFIG).read_text())
    layer = "bert.encoder.layer.{}.{}"
    down = [layer.format(n, "output.dense") for n in (0, 1)]
    assert config["feedforward_modules"] == down
    inputs = [layer.format(n, f"attention.self.{name}") for n in (0, 1) for name in ("key", "value")]
    assert config["target_modules"] == sorted(inputs + down)


def test_parameters_of_bert_base() -> None:
    # 12 blocks of 768 (keys) + 768 (values) + 3072 (inner state).
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    method = Ia3()
    method.modify(model, torch.Generator())
    head = 768 * 2 + 2
    assert method.expected(model) == surgery.count(model)[0] == 55_296 + head
    shapes = {tuple(tensor.shape) for tensor in method.tensors(model).values()}
    assert shapes == {(768, 1), (1, 3072)}


def test_vectors_start_at_one_and_are_not_decayed() -> None:
    model = built("tiny-llama").training.model
    vectors = {f"{path}.ia3_l" for path in scaled(model)}
    assert vectors <= anatomy.undecayed(model)
    assert all((wrapper.ia3_l == 1).all() for wrapper in scaled(model).values())


def test_a_value_scaled_by_two_doubles_what_attention_gives() -> None:
    toyed = built("tiny-bert")
    model, seen = toyed.training.model, []
    layer = "bert.encoder.layer.0.attention"
    model.get_submodule(f"{layer}.output.dense").register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    toy.logits(model, toyed.backbone.tokenizer)
    scaled(model)[f"{layer}.self.value"].ia3_l.data.fill_(2.0)
    toy.logits(model, toyed.backbone.tokenizer)
    assert seen[0].abs().max() > 0.01 and torch.allclose(seen[1], 2 * seen[0], atol=1e-6)


def test_a_scaled_query_of_a_fused_matrix_is_a_scaled_key() -> None:
    # (l * q) . k = q . (l * k): what the docstring says of GPT-2's c_attn.
    model = GPT2Model(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=2, n_positions=8)).eval()
    Ia3().modify(model, torch.Generator())
    vector, ids, found = scaled(model)["h.0.attn.c_attn"].ia3_l, torch.tensor([[3, 1, 4]]), []
    for third in (slice(0, 4), slice(4, 8)):
        vector.data.fill_(1.0)
        vector.data[third] = torch.tensor([9.0, -7.0, 5.0, 3.0])
        found.append(model(ids).last_hidden_state)
    vector.data.fill_(1.0)
    assert torch.allclose(*found, atol=1e-6)
    assert not torch.allclose(found[0], model(ids).last_hidden_state, atol=1e-6)


def test_a_gated_feed_forward_is_scaled_as_in_the_paper() -> None:
    # T-Few scales the half that is not activated, wi_1's output; we scale the product, wo's input.
    sizes: dict[str, Any] = {"d_model": 8, "d_kv": 4, "d_ff": 6, "num_layers": 1, "num_heads": 2}
    model = T5EncoderModel(T5Config(vocab_size=9, feed_forward_proj="gated-gelu", **sizes)).eval()
    half = model.get_submodule("encoder.block.0.layer.1.DenseReluDense.wi_1")
    ids, l_ff = torch.tensor([[3, 1, 4]]), torch.randn(6)
    handle = half.register_forward_hook(lambda _, given, output: output * l_ff)
    expected = model(ids).last_hidden_state
    handle.remove()
    Ia3().modify(model, torch.Generator())
    scaled(model)["encoder.block.0.layer.1.DenseReluDense.wo"].ia3_l.data.copy_(l_ff)
    assert torch.allclose(model(ids).last_hidden_state, expected, atol=1e-6)


@pytest.mark.parametrize("inputs", [False, True])
def test_a_backbone_in_bfloat16_keeps_its_type(inputs: bool) -> None:
    layer = ScaledLinear(nn.Linear(3, 4).to(torch.bfloat16), inputs)
    layer.ia3_l.data = layer.ia3_l.data.float()
    assert layer(torch.randn(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert cast(Tensor, layer.merged().weight).dtype == torch.bfloat16


def test_a_backbone_without_linears_in_its_feed_forward_is_refused() -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    config = MixtralConfig(vocab_size=9, num_attention_heads=2, num_key_value_heads=1, num_local_experts=2, **sizes)
    with pytest.raises(ModelError, match=r"in MixtralForCausalLM it finds key, value\."):
        Ia3().modify(MixtralForCausalLM(config), torch.Generator())
