"""Full fine-tuning: everything trains, and what is saved is a plain transformers model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests import toy
from tunesmith.core import surgery

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
