"""The bridge to peft: every type it has either trains, saves, loads here and in plain peft, or is refused."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tests import toy
from tunesmith.core import anatomy, delta, registry, surgery
from tunesmith.core.delta import CONFIG, WEIGHTS
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.quantised import Quantised
from tunesmith.methods.peft import Peft, Tuner
from tunesmith.models import artifact
from tunesmith.prepare import Prepared, load_backbone

SAME = 1e-5
# peft warns of much when it trains or loads alone: what it compiles, what it draws again from a seed, what it changed.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("UserWarning", "FutureWarning")]

# What peft's defaults, made for large layers, need to fit layers of 32 by 32.
SMALL: dict[str, dict[str, Any]] = {
    "C3A": {"block_size": 8},
    "FOURIERFT": {"n_frequency": 50},
    "MISS": {"r": 8},
    "ROAD": {"group_size": 16},
    "SHIRA": {"r": 4},
    "TRAINABLE_TOKENS": {"token_indices": [5, 70, 72]},
    "VBLORA": {"vector_length": 8, "num_vectors": 32, "r": 2},
    "VERA": {"r": 16},
    "WAVEFT": {"n_frequency": 100},
}
BEFORE, OUTSIDE = "puts vectors before the text: the methods 'prefix' and 'prompt'", "acts outside the layers"
REFUSED = {
    **dict.fromkeys(
        ["CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"], BEFORE
    ),
    **dict.fromkeys(["ADALORA", "ADAPTION_PROMPT", "POLY", "SHADOW", "XLORA"], OUTSIDE),
    "SHIRA": "4 tensors are saved in another form",
}
NO_MERGE = {"LILY": "not supported for Lily"}
WORK = [
    "ADAMSS", "BEFT", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA", "HRA", "IA3",
    "LILY", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "OSF", "PEANUT", "PSOFT", "PVERA", "RANDLORA", "ROAD",
    "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "WAVEFT",
]  # fmt: skip
TYPES = [kind.value for kind in peft.PEFT_TYPE_TO_CONFIG_MAPPING]


def built(kind: str = "LORA", backbone: str = "builtin:tiny-bert", seed: int = 0, **settings: Any) -> Prepared:
    method = {"name": "peft", "type": kind, "settings": {**SMALL.get(kind, {}), **settings}}
    return toy.prepared({"model": backbone, "method": method, "train": {"steps": 2, "seed": seed}})


def shaken(model: nn.Module) -> None:
    """Move what peft put in, as if it were trained for long; the head stays."""
    heads = tuple(f"{name}." for name in anatomy.head(model))
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in surgery.trained(model).items():
            if not name.startswith(heads or "none"):
                parameter += 0.05 * torch.randn(parameter.shape, generator=noise)


def plain(toyed: Prepared, folder: Path) -> nn.Module:
    """The same backbone without our code: saved to a folder, and loaded by transformers alone."""
    load_backbone(toyed.recipe).model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def logits(toyed: Prepared, model: Any = None) -> torch.Tensor:
    found: torch.Tensor = toy.logits(model or toyed.training.model, toyed.backbone.tokenizer)
    return found


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())


def test_most_types_work() -> None:
    assert len(set(WORK) & set(TYPES)) >= 10
    assert not set(WORK) & set(REFUSED)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_works_here_and_in_plain_peft_or_is_refused(kind: str, tmp_path: Path) -> None:
    try:
        toyed = built(kind)
    except (ModelError, RecipeError) as refusal:
        assert kind not in WORK, refusal.message
        assert REFUSED.get(kind, "peft") in refusal.message
        return
    assert kind not in REFUSED
    model = toyed.training.model
    shaken(model)
    start = logits(toyed)
    with surgery.switched_off(model):
        off = logits(toyed)
    backbone = plain(toyed, tmp_path / "plain")
    assert difference(off, logits(toyed, backbone)) <= 1e-6 < difference(off, start)
    assert surgery.count(model)[0] == toyed.recipe.method.expected(model)
    toy.train(toyed, tmp_path)
    trained = logits(toyed)
    folder, recipe = toy.save(toyed, tmp_path / "delta"), toyed.recipe
    loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed).model
    assert torch.equal(logits(toyed, loaded), trained)
    theirs = PeftModel.from_pretrained(backbone, str(folder))
    assert difference(logits(toyed, theirs), trained) <= 1e-6
    if kind in NO_MERGE:
        with pytest.raises(ModelError, match=f"can't be merged: .*{NO_MERGE[kind]}"):
            artifact.merge(loaded, recipe.method)
        return
    artifact.merge(loaded, recipe.method)
    assert difference(logits(toyed, loaded), trained) <= SAME
    assert set(loaded.state_dict()) == set(load_backbone(recipe).model.state_dict())
    assert not surgery.inserted(loaded)


@pytest.mark.parametrize("kind", ["LORA", "VERA", "IA3"])
@pytest.mark.parametrize("backbone", ["builtin:tiny-bert", "builtin:tiny-gpt2"])
def test_files_are_those_of_peft_and_a_delta_of_peft_loads_here(kind: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(kind, backbone)
    ours = toy.save(toyed, tmp_path / "ours")
    settings = {**SMALL.get(kind, {}), "fan_in_fan_out": "gpt2" in backbone and kind != "VERA"}
    config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)](task_type=TaskType.SEQ_CLS, **settings)
    theirs = get_peft_model(plain(toyed, tmp_path / "plain"), config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path / "theirs")
    assert {k: t.shape for k, t in load_file(ours / WEIGHTS).items()} == {
        k: t.shape for k, t in load_file(tmp_path / "theirs" / WEIGHTS).items()
    }
    told = json.loads((ours / CONFIG).read_text())
    assert told["task_type"] == "SEQ_CLS" and told["peft_type"] == kind and told["inference_mode"] is True
    assert all(path in dict(load_backbone(toyed.recipe).model.named_modules()) for path in told["target_modules"])
    delta.read(toyed.training.model, toyed.recipe.method, tmp_path / "theirs")
    assert difference(logits(toyed), logits(toyed, theirs)) <= SAME


@pytest.mark.parametrize(
    ("kind", "settings", "each"),
    [
        ("LORA", {"r": 4}, 4 * (32 + 32)),  # A [4, 32] and B [32, 4]
        ("VERA", {"r": 16}, 16 + 32),  # d [r] and b [out]; A and B are frozen
        ("LORA", {"r": 2, "use_dora": True}, 2 * (32 + 32) + 32),  # and one magnitude an output
    ],
)
def test_what_trains_is_counted(kind: str, settings: dict[str, Any], each: int) -> None:
    toyed = built(kind, **settings)
    # Query and value of two blocks; the head has 3 classes.
    assert toyed.recipe.method.expected(toyed.training.model) == 4 * each + 3 * 32 + 3


def test_random_numbers_come_from_the_generator_alone() -> None:
    found = []
    for seed in (0, 0, 1):
        torch.rand(3)
        before = torch.get_rng_state()
        model = load_backbone(built().recipe).model
        torch.set_rng_state(before)
        Peft().modify(model, torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), before)
        found.append(next(tensor for name, tensor in Peft().tensors(model).items() if "lora_A" in name))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_the_switch_moves_nothing_else_and_a_copy_has_its_own() -> None:
    toyed = built("VBLORA")
    model = toyed.training.model
    shaken(model)
    trains, outputs = set(surgery.trained(model)), logits(toyed)
    copied = copy.deepcopy(model)
    with surgery.switched_off(copied):
        assert set(surgery.trained(copied)) == trains
        assert torch.equal(logits(toyed), outputs)
        assert difference(logits(toyed, copied), outputs) > 1e-6
    assert torch.equal(logits(toyed, copied), outputs)
    (tuner,) = surgery.inserted(model).values()
    assert isinstance(tuner, Tuner) and tuner.active
    Peft(type="VBLORA", settings=SMALL["VBLORA"]).merge(copied)
    assert torch.equal(logits(toyed), outputs) and difference(logits(toyed, copied), outputs) <= SAME


def language_model(kind: str) -> nn.Module:
    if kind == "bert":
        sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        return BertForMaskedLM(BertConfig(vocab_size=19, intermediate_size=8, **sizes)).eval()
    tied = kind == "tied"
    config = GPT2Config(vocab_size=19, n_embd=8, n_layer=1, n_head=2, n_positions=16, tie_word_embeddings=tied)
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bert", "tied", "untied"])
def test_it_takes_language_models_of_every_type(kind: str, dtype: torch.dtype) -> None:
    model: Any = language_model(kind).to(dtype if dtype == torch.bfloat16 else torch.float32)
    ids = torch.tensor([[3, 1, 4]])
    method = Peft(settings={"target_modules": "all-linear", "r": 2})
    method.modify(model, torch.Generator().manual_seed(0))
    assert {parameter.dtype for parameter in surgery.trained(model).values()} == {torch.float32}
    model = model.double() if dtype == torch.float64 else model
    names = set(method.tensors(model))
    assert names and not any("decoder" in name or "lm_head" in name for name in names)
    shaken(model)
    outputs = model(input_ids=ids).logits.detach()
    method.merge(model)
    assert outputs.dtype == dtype
    assert difference(model(input_ids=ids).logits.detach(), outputs) <= (0.05 if dtype == torch.bfloat16 else SAME)


def test_the_head_is_kept_from_peft() -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0}
    model = RobertaForSequenceClassification(RobertaConfig(vocab_size=19, intermediate_size=8, **sizes))
    before = list(model._modules)
    # The head has a layer of this name too: it trains whole.
    method = Peft(settings={"target_modules": ["dense"]})
    method.modify(model, torch.Generator())
    assert list(model._modules) == before
    assert not any("classifier" in name for name in method.tensors(model))
    assert isinstance(model.classifier.dense, nn.Linear) and model.classifier.dense.weight.requires_grad


@pytest.mark.parametrize(
    ("kind", "settings", "layers"),
    [
        ("LORA", {}, ["attention.self.query", "attention.self.value"]),  # peft's table
        # ours: peft's table has no BERT
        ("LN_TUNING", {}, ["attention.output.LayerNorm", "bert.embeddings.LayerNorm", "output.LayerNorm"]),
        (
            "LORA",
            {"target_modules": "all-linear", "exclude_modules": ["query", "key", "dense"]},
            ["attention.self.value"],
        ),
    ],
)
def test_the_layers_are_said(kind: str, settings: dict[str, Any], layers: list[str]) -> None:
    with listening() as notes:
        built(kind, **settings)
    told = next(note for note in notes if note.startswith(f"peft's {kind} is put in at"))
    assert told.endswith(f"layers: {', '.join(layers)}.")


def test_where_peft_has_no_table_queries_and_values_are_taken() -> None:
    model = DistilBertModel(DistilBertConfig(vocab_size=19, dim=8, n_layers=1, n_heads=2, hidden_dim=8))
    method = Peft(type="vera", settings={"r": 4})
    method.modify(model, torch.Generator())
    taken = ["transformer.layer.0.attention.q_lin", "transformer.layer.0.attention.v_lin"]
    assert method.peft_config(model)["target_modules"] == taken


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("verra", {}, r"method\.type: peft has no type 'verra'\. Did you mean 'VERA'\?"),
        (
            "vera",
            {"rr": 1, "target_moduls": "q"},
            r"no rr \(did you mean r\?\), target_moduls \(did you mean target_mod",
        ),
        ("LORA", {"modules_to_save": ["a"], "task_type": "X"}, "leave out modules_to_save, task_type: the recipe's"),
        ("LORA", {"kasa_config": {"beta": 1.0}}, "leave out kasa_config: peft's own code"),
        ("LORA", {"init_lora_weights": "eva"}, "leave out init_lora_weights: eva"),
        ("LORA", {"r": "8"}, "r must be a number, not the text '8'"),
        ("IA3", {"target_modules": ["a"], "feedforward_modules": ["b"]}, "peft refuses.*should be a subset"),
    ],
)
def test_settings_that_peft_has_not_are_refused_as_the_recipe_is_read(kind: str, settings: Any, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        built(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "backbone", "settings", "told"),
    [
        ("LORA", "bert", {"r": 0}, r"peft can't put LORA into BertForSequenceClassification: `r` should be a positive"),
        ("LORA", "bert", {"target_modules": ["nowhere"]}, r"Target modules \{'nowhere'\} not found"),
        ("LORA", "bert", {"init_lora_weights": "pissa"}, "4 of the backbone's own weights change"),
        ("LORA", "bert", {"bias": "lora_only"}, "4 of the backbone's own weights train"),
        ("TRAINABLE_TOKENS", "bert", {"token_indices": []}, "nothing trains"),
        ("TRAINABLE_TOKENS", "t5", {}, "2 tables of words are passed over"),
        ("OFT", "gpt2", {}, r"Target module Conv1D.* is not supported"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(kind: str, backbone: str, settings: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told) as refusal:
        built(kind, f"builtin:tiny-{backbone}", **settings)
    assert refusal.value.message.endswith(".") and "\n" not in refusal.value.message


def test_a_quantised_backbone_is_refused() -> None:
    model = language_model("bert")
    model.bert.pooled = Quantised(torch.zeros(4, dtype=torch.uint8), (2, 2), None, False)
    with pytest.raises(ModelError, match="takes no quantised backbone"):
        Peft().modify(model, torch.Generator())


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    kind = registry.load("methods", "peft")  # so that its sentence can be shown
    with pytest.raises(RecipeError, match=r"needs the library peft(.|\n)*pip install 'tunesmith\[peft\]'"):
        registry.build("methods", {"name": kind.word(), "type": "VERA"})
