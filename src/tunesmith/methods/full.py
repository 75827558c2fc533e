"""Full fine-tuning: every weight trains."""

from __future__ import annotations

import torch
from torch import nn

from tunesmith.core import surgery
from tunesmith.core.part import Method


class Full(Method):
    """Train every weight of the backbone and its head.

    Formula: w <- w - rate * AdamW(gradient of the loss), for all w.
    Symbols: w, every parameter. Shapes: unchanged.
    Paper: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2019, section 3.2. No deviation.
    """

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Let everything train."""
        surgery.thaw(model)

    def expected(self, model: nn.Module) -> int:
        """All parameters."""
        return surgery.count(model)[1]
