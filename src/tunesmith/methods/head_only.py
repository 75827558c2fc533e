"""Head only: the backbone is a fixed feature extractor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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

    learning_rate = 1e-2
    delta = True
    keeps_backbone = True

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze all but the head; a model without a head raises ModelError."""
        if not anatomy.head(model):
            raise ModelError(
                f"{type(model).__name__} has no head beside its backbone, so head_only would train nothing.",
                hint="Use another method: lora or full.",
            )
        surgery.freeze_backbone(model)

    def expected(self, model: nn.Module) -> int:
        """The head's parameters."""
        return anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """None: the head is all."""
        return {}
