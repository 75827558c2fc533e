"""NEFTune's noise: its size, where it acts, and where it does not."""

from __future__ import annotations

import pytest
import torch

from tests import toy
from tunesmith.core import anatomy
from tunesmith.core.errors import RecipeError
from tunesmith.regularizers.noise import Noise, noisy


def test_the_size_of_the_noise() -> None:
    torch.manual_seed(0)
    embedded = torch.randn(3, 4, 16)
    added = noisy(embedded, 5.0) - embedded
    # Uniform in +- 5 / sqrt(4 * 16).
    assert added.abs().max() <= 0.625 + 1e-6
    assert added.abs().max() > 0.6 and abs(added.mean()) < 0.1
    assert torch.equal(noisy(embedded, 0.0), embedded)


@pytest.mark.parametrize("model", toy.BACKBONES)
def test_it_acts_in_training_alone(model: str) -> None:
    training = toy.prepared({"model": model}).training
    words = next(iter(anatomy.word_embeddings(training.model).values()))
    ids = torch.tensor([[5, 6, 7]])
    plain = words(ids)
    Noise(strength=1.0).setup(training)
    training.model.eval()
    assert torch.equal(words(ids), plain)
    training.model.train()
    assert not torch.equal(words(ids), plain)
    assert (words(ids) - plain).abs().max() <= 1 / (3 * plain.shape[-1]) ** 0.5 + 1e-6


def test_images_have_no_words() -> None:
    with pytest.raises(RecipeError, match="has no embeddings of words to add noise to"):
        Noise().modify(torch.nn.Linear(2, 2), torch.Generator())
