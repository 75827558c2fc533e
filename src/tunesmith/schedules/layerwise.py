"""Discriminative rates: the lower a block, the smaller its rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import nn

from tunesmith.core.part import Schedule
from tunesmith.core.places import places


class Layerwise(Schedule):
    """Give every block a smaller rate than the one above it, and the embeddings the smallest.

    Formula: rate_l = rate * factor^(n + 1 - l) for l = 0 … n + 1, and rate * head for the head.
    Symbols: l = 0 the embeddings, 1 … n the blocks from the bottom (an encoder-decoder's encoder, then its decoder), n
    + 1 what stands above them. Shapes: one factor for each place, over the whole training.
    Paper: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018, with 1 / 2.6 for the
    three layers of its model; for the many blocks of a transformer 0.95, as Zhang et al., "Revisiting Few-sample BERT
    Fine-tuning", 2021.
    """

    sets: ClassVar[str] = "the rates of layers"

    factor: float = Field(0.95, gt=0, le=1)
    """Rate of a block as a share of the rate of the one above it."""
    head: float = Field(1.0, gt=0)
    """Rate of the head as a share of the training's."""

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """The factor of every parameter."""
        found = places(model)
        return {
            name: self.head if place == found.head else self.factor ** (found.above - place)
            for name, place in found.of.items()
        }
