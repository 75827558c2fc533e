"""Noise on the word embeddings while training: NEFTune."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Part
from tunesmith.core.step import Training


def noisy(embedded: Tensor, strength: float) -> Tensor:
    """Embeddings [batch, time, hidden] plus uniform noise of size strength / sqrt(time * hidden), of their shape."""
    size = strength / (embedded.shape[-2] * embedded.shape[-1]) ** 0.5
    return embedded + torch.empty_like(embedded).uniform_(-size, size)


class Noise(Part):
    """Add noise to the embeddings of the words in every training step, so that the model does not learn texts by heart.

    Formula: e' = e + strength / sqrt(L d) * u, u uniform in [-1, 1].
    Symbols: e [L, d] the embeddings of one text, L its length with its batch's padding, d the hidden size. Shapes: e'
    has e's.
    Paper: Jain et al., "NEFTune: Noisy Embeddings Improve Instruction Finetuning", 2023, with strength 5, 10 or 15; L
    counts padding, as in the authors' code.
    """

    strength: float = Field(5.0, ge=0)
    """The size of the noise, alpha in the paper."""

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Look at the backbone, and change nothing: one that reads no words raises RecipeError."""
        if self.strength and not anatomy.word_embeddings(model):
            raise RecipeError(
                f"noise: {type(model).__name__} has no embeddings of words to add noise to.", hint="Leave it out."
            )

    def setup(self, training: Training) -> None:
        """Add noise to what the embeddings give."""
        if self.strength:
            for module in dict.fromkeys(anatomy.word_embeddings(training.model).values()):
                module.register_forward_hook(self._add)

    def _add(self, module: nn.Module, given: tuple[Any, ...], embedded: Tensor) -> Tensor | None:
        return noisy(embedded, self.strength) if module.training else None
