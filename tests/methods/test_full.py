"""Full fine-tuning: everything trains, and what is saved is a plain transformers model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests import toy
from tunesmith.core import surgery
from tunesmith.core.errors import ModelError
from tunesmith.methods.full import Full
from tunesmith.prepare import load_backbone

# Counted by hand from the configuration: vocabulary 259, hidden 32, feed-forward 64, two blocks, 128 positions.
BLOCK = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 2 * (32 + 32)
EMBEDDINGS = (259 + 128 + 2) * 32 + 2 * 32
POOLER, HEAD = 32 * 32 + 32, 32 * 3 + 3


def test_every_parameter_trains() -> None:
    toyed = toy.prepared({"method": "full"})
    expected = EMBEDDINGS + 2 * BLOCK + POOLER + HEAD
    assert surgery.count(toyed.training.model) == (expected, expected)
    assert toyed.recipe.method.expected(toyed.training.model) == expected


def test_a_frozen_backbone_is_thawed() -> None:
    toyed = toy.prepared({"method": "full"})
    surgery.freeze(toyed.training.model)
    toyed.recipe.method.modify(toyed.training.model, torch.Generator())
    assert all(parameter.requires_grad for parameter in toyed.training.model.parameters())


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_the_trained_model_loads_in_plain_transformers(backbone: str, tmp_path: Path) -> None:
    toyed = toy.prepared({"model": backbone, "method": "full", "train": {"steps": 2, "learning_rate": 0.01}})
    toy.train(toyed, tmp_path)
    toy.save(toyed, tmp_path / "model")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    assert torch.equal(toy.logits(theirs, toyed.backbone.tokenizer), expected)
    assert theirs.config.id2label == {0: "maybe", 1: "no", 2: "yes"}
    assert theirs.config.label2id == {"maybe": 0, "no": 1, "yes": 2}


def filled(backbone: str, reinit: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights that differ from 7 after a model full of sevens was modified."""
    model = load_backbone(toy.prepared({"model": backbone}).recipe).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    Full(reinit=reinit).modify(model, torch.Generator().manual_seed(seed))
    assert all(parameter.requires_grad for parameter in model.parameters())
    return {name: tensor for name, tensor in model.state_dict().items() if not (tensor == 7.0).all()}


@pytest.mark.parametrize(
    ("backbone", "places"),
    [
        ("builtin:tiny-bert", ("bert.encoder.layer.1.", "bert.pooler.")),
        ("builtin:tiny-gpt2", ("transformer.h.1.",)),
        ("builtin:tiny-llama", ("model.layers.1.",)),
        ("builtin:tiny-t5", ("transformer.decoder.block.1.",)),
    ],
)
def test_the_top_block_and_the_pooler_start_anew(backbone: str, places: tuple[str, ...]) -> None:
    names = load_backbone(toy.prepared({"model": backbone}).recipe).model.state_dict()
    assert set(filled(backbone, 1)) == {name for name in names if name.startswith(places)}
    assert filled(backbone, 0) == {}


def test_what_starts_anew_follows_the_models_scheme() -> None:
    for name, tensor in filled("builtin:tiny-bert", 2).items():
        if tensor.dim() == 2:
            # 1,024 or 2,048 draws: the estimate of 0.02 is right to 2.2 %.
            assert abs(tensor.mean()) < 0.003 and tensor.std() == pytest.approx(0.02, rel=0.1), name
        else:
            assert (tensor == (1.0 if name.endswith("LayerNorm.weight") else 0.0)).all(), name
    # GPT-2 scales what adds to the residual by 1 / sqrt(2 * blocks).
    spread = {name.split(".", 3)[-1]: float(tensor.std()) for name, tensor in filled("builtin:tiny-gpt2", 1).items()}
    assert spread["attn.c_attn.weight"] == pytest.approx(0.02, rel=0.1)
    assert spread["attn.c_proj.weight"] == pytest.approx(0.01, rel=0.1)
    assert spread["mlp.c_proj.weight"] == pytest.approx(0.01, rel=0.1)


def test_the_draws_are_the_generators_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (filled("builtin:tiny-bert", 1, seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_weights_from_a_file_start_anew_too() -> None:
    # transformers marks what it read, and its schemes leave marked weights alone.
    toyed = toy.prepared({"model": "builtin:minilm", "method": {"name": "full", "reinit": 2}})
    before, after = load_backbone(toyed.recipe).model.state_dict(), toyed.training.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    places = ("bert.encoder.layer.4.", "bert.encoder.layer.5.", "bert.pooler.")
    # Biases that are zero in the file are drawn as zero again.
    assert changed == {name for name in before if name.startswith(places) and before[name].any()}
    assert "bert.encoder.layer.5.output.dense.weight" in changed


def test_more_blocks_to_start_anew_than_there_are_is_refused() -> None:
    with pytest.raises(ModelError, match=r"method\.reinit: 3 blocks are asked for, but BertForSeq.* has 2\."):
        toy.prepared({"method": {"name": "full", "reinit": 3}})
