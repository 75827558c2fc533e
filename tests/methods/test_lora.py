"""LoRA: its start, its gradients, its scale, and both ways between us and peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from tests import toy
from tunesmith.core import delta, surgery
from tunesmith.core.delta import CONFIG, WEIGHTS
from tunesmith.core.errors import ModelError
from tunesmith.core.notes import listening
from tunesmith.methods.lora import Lora
from tunesmith.methods.low_rank import LoraEmbedding, LoraLinear
from tunesmith.models import artifact
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.train import checkpoint

INTEROP = ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama", "builtin:minilm"]
SAME = 1e-5

# peft asks the model for a property under a name that transformers has since changed.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


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


FULL = {
    "rank": 2,
    "alpha": 3.0,
    "embeddings": True,
    "rank_pattern": {"layer.1.*": 3},
    "alpha_pattern": {".*value": 5.0},
}


@OF_PEFT
@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("builtin:tiny-bert", FULL),
        ("builtin:tiny-bert", {"rank": 3, "rank_stabilised": True, "targets": "all-linear"}),
        ("builtin:tiny-bert", {"rank": 3, "init": "pissa"}),
        ("builtin:tiny-gpt2", {"rank": 3, "init": "pissa", "rank_stabilised": True, "alpha_pattern": {"c_attn": 7.0}}),
        ("builtin:tiny-gpt2", {"embeddings": True, "rank_pattern": {"wte": 3}}),
        ("builtin:tiny-t5", {"embeddings": True}),
    ],
    ids=str,
)
def test_every_kind_loads_in_peft_and_merges(backbone: str, settings: dict[str, Any], tmp_path: Path) -> None:
    toyed = shaken(built(backbone, **settings))
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    folder = toy.save(toyed, tmp_path / "delta")
    recipe = toyed.recipe
    loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    assert (toy.logits(loaded.model, loaded.tokenizer) - expected).abs().max() <= SAME
    theirs = PeftModel.from_pretrained(plain(toyed, tmp_path / "plain"), str(folder))
    assert (toy.logits(theirs, toyed.backbone.tokenizer) - expected).abs().max() <= SAME
    artifact.merge(loaded.model, recipe.method.shipped())
    loaded.model.save_pretrained(tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert (toy.logits(merged, toyed.backbone.tokenizer) - expected).abs().max() <= SAME


def shaken(toyed: Prepared) -> Prepared:
    """Move everything that was inserted, as if it were trained."""
    with torch.no_grad():
        for name, parameter in toyed.training.model.named_parameters():
            if "lora_" in name:
                parameter += 0.1 * torch.randn(parameter.shape)
    return toyed


def test_patterns_give_other_ranks_and_strengths() -> None:
    made = surgery.wrappers(built(**FULL).training.model)
    ranks = {path.partition("layer.")[2]: cast(LoraLinear, w) for path, w in made.items() if isinstance(w, LoraLinear)}
    assert {path: (w.lora_A.shape[0], w.scale) for path, w in ranks.items()} == {
        "0.attention.self.query": (2, 1.5),
        "0.attention.self.value": (2, 2.5),
        "1.attention.self.query": (3, 1.0),
        "1.attention.self.value": (3, pytest.approx(5 / 3)),
    }


@pytest.mark.parametrize("init", ["uniform", "pissa"])
@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_the_first_outputs_are_the_backbones_whatever_the_start(backbone: str, init: str) -> None:
    toyed = built(backbone, init=init, targets="all-linear", embeddings=init == "uniform")
    expected = toy.logits(load_backbone(toyed.recipe).model, toyed.backbone.tokenizer)
    assert torch.equal(toy.logits(toyed.training.model, toyed.backbone.tokenizer), expected)


def test_lora_plus_gives_b_another_rate() -> None:
    toyed = toy.prepared({"method": {"name": "lora", "b_rate_ratio": 16.0}, "train": {"learning_rate": 1e-3}})
    rates = {name: group["peak"] for group in toyed.training.optimizer.param_groups for name in group["names"]}
    assert set(rates) == set(surgery.trained(toyed.training.model))
    for name, rate in rates.items():
        assert rate == pytest.approx(16e-3 if name.endswith("lora_B") else 1e-3), name


def test_merging_embeddings_leaves_a_tied_output_layer_as_it_was(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=19, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    model = GPT2LMHeadModel(config).eval()
    assert model.lm_head.weight is model.transformer.wte.weight
    method = Lora(rank=2, embeddings=True)
    method.modify(model, torch.Generator().manual_seed(0))
    wrapper = cast(LoraEmbedding, model.transformer.wte)
    nn.init.normal_(wrapper.lora_embedding_A)
    ids = torch.tensor([[3, 1, 4]])
    expected = model(ids).logits
    with listening() as notes:
        method.merge(model)
    assert any("keeps the old ones" in told for told in notes)
    assert torch.allclose(model(ids).logits, expected, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    assert torch.allclose(loaded(ids).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"init": "pissa", "embeddings": True}, "does not go with 'embeddings'"),
        ({"init": "pissa", "start": "somewhere"}, "does not go with 'start'"),
        ({"rank_pattern": {"value": 0}}, "need numbers above 0"),
        ({"alpha_pattern": {"value": -1.0}}, "need numbers above 0"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Lora(**settings)


def test_a_rank_larger_than_the_layer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"rank 33 is larger than the layer bert\.encoder.*, which is 32 by 32"):
        built(rank=33)


def test_targets_that_match_nothing_name_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"Did you mean 'attention\.self\.query'\?.*output\.dense"):
        built(targets="attention.self.queri")
