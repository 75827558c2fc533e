"""Head only: the backbone is a fixed feature extractor."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.part import Method


class HeadOnly(Method):
    """Train the task head alone; the backbone stays as it is.

    Formula: y = U g(x) + c, with g the frozen backbone; U and c train.
    Symbols: g(x) [batch, hidden], U [classes, hidden], c [classes]. Parameters: those of the head.
    Paper: Devlin et al., "BERT", 2019, section 5.3 (the feature-based approach). We use the head that transformers
    gives the backbone, on its pooled state, instead of a recurrent network on all states; dropout of the backbone
    stays on.
    """

    learning_rate = 1e-3

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze all but the head; a model without a head raises ModelError."""
        heads = anatomy.head(model)
        if not heads:
            raise ModelError(
                f"{type(model).__name__} has no head beside its backbone, so head_only would train nothing.",
                hint="Use another method: lora or full.",
            )
        surgery.freeze(model)
        for head in heads.values():
            surgery.thaw(head)

    def expected(self, model: nn.Module) -> int:
        """The head's parameters."""
        return sum(p.numel() for head in anatomy.head(model).values() for p in head.parameters())

    def save(self, model: nn.Module, folder: Path, backbone: str) -> None:
        """A plain transformers model: backbone and head."""
        assert isinstance(model, PreTrainedModel)
        model.save_pretrained(folder)

    def merge(self, model: nn.Module) -> None:
        """Nothing was inserted: nothing to do."""
