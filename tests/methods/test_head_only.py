"""Head only: a linear model on frozen features."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from tests import toy
from tunesmith.core import surgery
from tunesmith.core.errors import ModelError
from tunesmith.methods.head_only import HeadOnly


@pytest.mark.parametrize(
    ("backbone", "count"),
    [
        ("builtin:tiny-bert", 32 * 3 + 3),
        ("builtin:tiny-gpt2", 32 * 3),  # transformers' decoders have a head without bias
        ("builtin:tiny-llama", 32 * 3),
        ("builtin:tiny-t5", (32 * 32 + 32) + (32 * 3 + 3)),  # a dense layer before it
    ],
)
def test_the_head_alone_trains(backbone: str, count: int) -> None:
    toyed = toy.prepared({"model": backbone, "method": "head_only"})
    model = toyed.training.model
    assert surgery.count(model)[0] == toyed.recipe.method.expected(model) == count
    assert {name.split(".")[0] for name in surgery.trained(model)} <= {"classifier", "score", "classification_head"}


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(ModelError, match=r"BertModel has no head beside its backbone(.|\n)*hint: Use another method"):
        HeadOnly().modify(BertModel(BertConfig(num_hidden_layers=1, vocab_size=8)), torch.Generator())


def test_training_is_that_of_a_linear_layer_on_frozen_features(tmp_path: Path) -> None:
    rate = 0.01
    toyed = toy.prepared(
        {
            "method": "head_only",
            "schedules": [{"name": "warmup_linear", "warmup": 0.0}],
            "train": {"steps": 3, "batch_size": 8, "learning_rate": rate, "weight_decay": 0.0, "clip": 1e9},
        }
    )
    model = toyed.training.model
    toy.quiet(model)
    batch = next(toyed.batches.stream(0)).batches[0]
    with torch.no_grad():
        features = model.base_model(**batch.inputs).pooler_output
    linear = nn.Linear(32, 3)
    linear.load_state_dict(model.classifier.state_dict())
    optimizer = torch.optim.AdamW(linear.parameters(), lr=rate, weight_decay=0.0)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = rate * (3 - step) / 3
        nn.CrossEntropyLoss()(linear(features), batch.fields["targets"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    toy.train(toyed, tmp_path)
    assert torch.allclose(model.classifier.weight, linear.weight, atol=1e-6)
    assert torch.allclose(model.classifier.bias, linear.bias, atol=1e-6)
