"""Every parameter stands at exactly one place, from the embeddings up to the head."""

from __future__ import annotations

import pytest

from tests import toy
from tunesmith.core.places import BOTTOM, places


@pytest.mark.parametrize("model", toy.BACKBONES)
@pytest.mark.parametrize("method", ["full", "lora", "prompt"])
def test_every_parameter_has_one_place(model: str, method: str) -> None:
    made = toy.prepared({"model": model, "method": method}).training.model
    found = places(made)
    assert set(found.of) == {name for name, _ in made.named_parameters()}
    assert set(found.of.values()) <= set(range(found.head + 1))
    assert {BOTTOM, 1, found.blocks, found.head} <= set(found.of.values())


@pytest.mark.parametrize(
    ("model", "name", "place"),
    [
        ("builtin:tiny-bert", "bert.embeddings.LayerNorm.weight", 0),
        ("builtin:tiny-bert", "bert.encoder.layer.0.output.dense.bias", 1),
        ("builtin:tiny-bert", "bert.encoder.layer.1.output.dense.bias", 2),
        ("builtin:tiny-bert", "bert.pooler.dense.weight", 3),
        ("builtin:tiny-bert", "classifier.weight", 4),
        ("builtin:tiny-llama", "model.embed_tokens.weight", 0),
        ("builtin:tiny-llama", "model.norm.weight", 3),
        ("builtin:tiny-llama", "score.weight", 4),
        # The decoder's blocks stand above the encoder's, and the norm between them goes with the block below it.
        ("builtin:tiny-t5", "transformer.shared.weight", 0),
        ("builtin:tiny-t5", "transformer.encoder.final_layer_norm.weight", 2),
        ("builtin:tiny-t5", "transformer.decoder.block.1.layer.0.SelfAttention.q.weight", 4),
        ("builtin:tiny-t5", "transformer.decoder.final_layer_norm.weight", 5),
    ],
)
def test_places_by_hand(model: str, name: str, place: int) -> None:
    assert places(toy.prepared({"model": model}).training.model).of[name] == place


def test_names_of_some_places() -> None:
    found = places(toy.prepared({}).training.model)
    assert found.names([found.head]) == ["classifier.weight", "classifier.bias"]
