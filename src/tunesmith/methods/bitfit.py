"""BitFit: the biases of the backbone train."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.part import Method


class Bitfit(Method):
    """Train the biases of the backbone, and the head; every other weight stays.

    Formula: y = W x + b, and y = w * norm(x) + b in a norm; b trains, W and w do not.
    Symbols: b [out] the bias of a linear or [hidden] of a norm, the pooler's too. With `query_and_up` only the biases
    of the queries and of the feed-forward's way up; where one matrix makes queries, keys and values (GPT-2), its whole
    bias.
    Parameters: the sizes of the chosen biases, and the head's; 102,912 and 46,080 biases in BERT-base.
    Paper: Ben Zaken, Ravfogel, Goldberg, "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
    Language-models", 2022. No deviation for `all`; a fused bias can't be split, see above.
    """

    learning_rate = 4e-3
    delta = True

    which: Literal["all", "query_and_up"] = "all"
    """`all` biases, or those of the queries and of the feed-forward's way up (the paper's smaller variant)."""

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze all but the biases and the head; a model without such biases raises ModelError."""
        chosen = self._chosen(model)
        if not chosen:
            kind = "biases" if self.which == "all" else "biases at its queries and its feed-forward's way up"
            raise ModelError(
                f"{type(model).__name__} has no {kind} that bitfit could train: use the method 'norms' instead.",
                hint="Set method=norms, which trains the normalisation layers.",
            )
        surgery.freeze_backbone(model, but=chosen.values())

    def expected(self, model: nn.Module) -> int:
        """The sizes of the biases, and the head."""
        return sum(parameter.numel() for parameter in self._chosen(model).values()) + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The biases, by the model's own names."""
        return {**self._chosen(model)}

    def _chosen(self, model: nn.Module) -> dict[str, nn.Parameter]:
        heads = tuple(f"{name}." for name in anatomy.head(model))
        named = {name: p for name, p in model.named_parameters() if not name.startswith(heads)}
        found = {name: p for name, p in named.items() if name.rpartition(".")[2] == "bias"}
        if self.which == "all":
            return found
        places = {path for path, role in anatomy.roles(model).items() if role in ("query", "qkv", "up")}
        return {name: p for name, p in found.items() if name.removesuffix(".bias") in places}
