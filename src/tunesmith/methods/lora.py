"""LoRA: a low-rank matrix learned beside each frozen one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from tunesmith.core import anatomy, delta, surgery, targets
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import features, transposed, weight_of
from tunesmith.core.notes import note
from tunesmith.core.part import Method
from tunesmith.core.step import Training
from tunesmith.methods.low_rank import LoraEmbedding, LoraLinear, Strength, principal


class Lora(Method):
    """Train two small matrices beside each chosen linear, and the head; the backbone stays as it is.

    Formula: y = W x + b + s B A dropout(x); merged: W + s B A. s = alpha / r, or alpha / sqrt(r) if rank-stabilised.
    Symbols: W [out, in] frozen; A [r, in], uniform in ±1/sqrt(in) at the start; B [out, r], zero at the start. For
    embeddings A [r, vocabulary] starts at zero and B [hidden, r] standard normal. With PiSSA A and B start as the
    principal part of W, W = U S V^T: B0 = U_r sqrt(S_r / s), A0 = sqrt(S_r / s) V_r^T, and
    y = W x + b + s (B A - B0 A0) x.
    Parameters: the sum of r (in + out) over the chosen linears, and the head's.
    Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. The paper's text starts A Gaussian,
    its code and ours uniform. Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023.
    Hayou et al., "LoRA+", 2024: B's rate is `b_rate_ratio` times A's; the head keeps the common rate. Meng et al.,
    "PiSSA", 2024: we subtract B0 A0 in the forward pass where the paper subtracts it from W, which gives the same
    outputs and leaves the backbone untouched; the delta is saved as plain LoRA of twice the rank against it.
    """

    # For small backbones: chosen on our example data. The paper takes 4e-4 to 5e-4 for base models, and 2e-4 is usual
    # for billions of weights.
    learning_rate = 2e-3
    delta = True
    keeps_backbone = True
    at_inference = "nothing once merged; before, two small products a layer"

    rank: int = Field(8, ge=1)
    """Inner size r of the two matrices."""
    alpha: float = Field(16.0, gt=0)
    """Strength: the product is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the input's features dropped before A, in training."""
    targets: str = "attention"
    """`attention` (queries and values), `all-linear` (every linear of the blocks), or a pattern that must match a
    path whole or its last words (`value`, `output.dense`).
    """
    embeddings: bool = False
    """Whether the word embeddings get a low-rank product too."""
    rank_pattern: dict[str, int] = Field(default_factory=dict)
    """Other ranks for the places that a pattern matches, for example {value: 16}."""
    alpha_pattern: dict[str, float] = Field(default_factory=dict)
    """Other strengths for the places that a pattern matches."""
    rank_stabilised: bool = False
    """Whether the product is multiplied by alpha / sqrt(rank) instead (rsLoRA)."""
    b_rate_ratio: float = Field(1.0, gt=0)
    """How many times A's learning rate B's is (LoRA+ suggests about 16; 1 is plain LoRA)."""
    init: Literal["uniform", "pissa"] = "uniform"
    """How A and B start: `uniform` and zero, or as the principal part of the frozen weight (`pissa`)."""
    start: str | None = None
    """Folder of a LoRA delta in peft's layout, of the same rank, alpha and targets, to start from."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.init == "pissa" and (self.embeddings or self.start is not None):
            other = "embeddings" if self.embeddings else "start"
            raise ValueError(f"init 'pissa' starts linears from their own weights; it does not go with '{other}'")
        bad = {key: rank for key, rank in self.rank_pattern.items() if rank < 1}
        bad |= {key: alpha for key, alpha in self.alpha_pattern.items() if not alpha > 0}  # type: ignore[misc]
        if bad:
            raise ValueError(f"rank_pattern and alpha_pattern need numbers above 0, not {bad}")
        return self

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap the chosen layers. Targets or patterns that match nothing, and ranks larger than
        their layer, raise ModelError.
        """
        places: dict[str, nn.Module] = {**targets.choose(model, self.targets)}
        if self.embeddings:
            places |= _word_embeddings(model)
        strength = self._strength()
        strength.check(places)
        surgery.freeze_backbone(model)
        for path, place in places.items():
            rank, scale = strength.of(path)
            if isinstance(place, nn.Embedding):
                continue
            wrapper = LoraLinear(place, rank, scale, self.dropout, generator)
            if self.init == "pissa":
                wrapper.start_from(*principal(weight_of(place), rank, scale))
            surgery.replace(model, path, wrapper)
        if words := [path for path, place in places.items() if isinstance(place, nn.Embedding)]:
            # Modules that share a weight share what is added to it.
            rank, scale = strength.of(words[0])
            embedding = LoraEmbedding(cast(nn.Embedding, places[words[0]]), rank, scale, generator)
            for path in words:
                surgery.replace(model, path, embedding)

    def setup(self, training: Training) -> None:
        """Take the delta to start from, where the recipe names one."""
        if self.start is not None:
            delta.read(training.model, self, Path(self.start))

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """LoRA+: B's factor."""
        return {f"{path}.lora_B": self.b_rate_ratio for path, _ in _linears(model)}

    def expected(self, model: nn.Module) -> int:
        """Sum of r (in + out), and the head."""
        strength = self._strength()
        inserted = sum(strength.of(path)[0] * sum(features(wrapper.base)) for path, wrapper in _linears(model))
        embeddings = {wrapper: strength.of(path)[0] * sum(wrapper.weight.shape) for path, wrapper in _embeddings(model)}
        return inserted + sum(embeddings.values()) + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """A and B of every place, by peft's names."""
        found: dict[str, Tensor] = {}
        for path, wrapper in _linears(model):
            a, b = wrapper.factors()
            found |= {f"{delta.PREFIX}{path}.lora_A.weight": a, f"{delta.PREFIX}{path}.lora_B.weight": b}
        for path, embedding in _embeddings(model):
            found[f"{delta.PREFIX}{path}.lora_embedding_A"] = embedding.lora_embedding_A
            found[f"{delta.PREFIX}{path}.lora_embedding_B"] = embedding.lora_embedding_B
        return found

    def shipped(self) -> Method:
        """Plain LoRA; PiSSA's of twice the rank, its alpha raised so that the scale stays."""
        if self.init != "pissa":
            return self
        # scale = alpha / r, or alpha / sqrt(r): with 2 r in place of r, alpha grows by as much as the divisor.
        grown = math.sqrt(2) if self.rank_stabilised else 2.0
        return self.model_copy(
            update={
                "init": "uniform",
                "rank": 2 * self.rank,
                "alpha": grown * self.alpha,
                "rank_pattern": {pattern: 2 * rank for pattern, rank in self.rank_pattern.items()},
                "alpha_pattern": {pattern: grown * alpha for pattern, alpha in self.alpha_pattern.items()},
            }
        )

    def peft_config(self, model: nn.Module) -> dict[str, Any]:
        """The entries of a LoraConfig."""
        places = {path: wrapper.base for path, wrapper in [*_linears(model), *_embeddings(model)]}
        strength = self._strength()
        return {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": sorted(places),
            "bias": "none",
            "fan_in_fan_out": any(transposed(base) for base in places.values()),
            "init_lora_weights": True,
            "use_rslora": self.rank_stabilised,
            "use_dora": False,
            "lora_bias": False,
            "rank_pattern": {path: strength.of(path)[0] for path in places if strength.of(path)[0] != self.rank},
            "alpha_pattern": {
                path: strength.alpha_of(path) for path in places if strength.alpha_of(path) != self.alpha
            },
        }

    def merge(self, model: nn.Module) -> None:
        """W + s B A in place of every wrapper. Embeddings that the output layer shares are its own from then on."""
        words = anatomy.output_layer(model)
        tied = words is not None and any(wrapper.weight is words.weight for _, wrapper in _embeddings(model))
        surgery.merge(model)
        if tied:
            model.config.tie_word_embeddings = False  # type: ignore[union-attr]
            note(
                "The output layer shared the embeddings that are merged: it keeps the old ones, and is saved by itself."
            )

    def _strength(self) -> Strength:
        return Strength(self.rank, self.alpha, self.rank_pattern, self.alpha_pattern, self.rank_stabilised)


def _linears(model: nn.Module) -> list[tuple[str, LoraLinear]]:
    return [(path, found) for path, found in surgery.wrappers(model).items() if isinstance(found, LoraLinear)]


def _embeddings(model: nn.Module) -> list[tuple[str, LoraEmbedding]]:
    every = model.named_modules(remove_duplicate=False)
    return [(path, found) for path, found in every if isinstance(found, LoraEmbedding) and not found.sealed]


def _word_embeddings(model: nn.Module) -> dict[str, nn.Module]:
    words = anatomy.word_embeddings(model)
    other = next((type(module).__name__ for module in words.values() if type(module) is not nn.Embedding), "")
    if other or not words:
        raise ModelError(
            f"method.embeddings needs plain word embeddings; {type(model).__name__} has {other or 'none'}.",
            hint="Leave method.embeddings out.",
        )
    return words
