"""Norms: the weights and biases of the normalisation layers train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.part import Method


class Norms(Method):
    """Train the normalisation layers of the backbone, and the head; every other weight stays.

    Formula: y = w * norm(x) + b; w and b train (an RMS norm has no b).
    Symbols: norm(x), the input with mean 0 and variance 1 (RMS: mean square 1) over its features; w, b [hidden].
    Parameters: one or two numbers a feature of every norm, and the head's.
    Paper: Qi et al., "Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models", 2022; Zhao et
    al., "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning", 2023, which is peft's LN_TUNING.
    We train every norm, also that of the embeddings and the final one, as peft does; the rate is BitFit's, whose
    vectors are of the same kind.
    """

    learning_rate = 4e-3
    delta = True

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze all but the norms and the head; a model whose norms have no weights raises ModelError."""
        chosen = _chosen(model)
        if not chosen:
            raise ModelError(
                f"{type(model).__name__} has no normalisation layers with weights, so norms would train nothing.",
                hint="Use another method: bitfit or lora.",
            )
        surgery.freeze_backbone(model, but=chosen.values())

    def expected(self, model: nn.Module) -> int:
        """The sizes of the norms' weights and biases, and the head."""
        return sum(parameter.numel() for parameter in _chosen(model).values()) + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The norms' weights and biases, by the model's own names."""
        return {**_chosen(model)}


def _chosen(model: nn.Module) -> dict[str, nn.Parameter]:
    heads = tuple(f"{name}." for name in anatomy.head(model))
    return {
        f"{path}.{name}": parameter
        for path, norm in anatomy.norms(model).items()
        if not path.startswith(heads)
        for name, parameter in norm.named_parameters(recurse=False)
    }
