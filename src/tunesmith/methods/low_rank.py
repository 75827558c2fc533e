"""Low-rank products beside frozen layers: the layers, their start, and how strong each is. Shared by lora and dora."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.core import surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import exact, features, in_type_of, weight_of, with_weight
from tunesmith.core.targets import matching
from tunesmith.methods.low_rank_step import added, frozen


class LoraLinear(surgery.Wrapper):
    """A frozen linear with a low-rank product beside it: `base(x) + scale * (dropout(x) A^T) B^T`.

    A [rank, in] starts uniform in ±1/sqrt(in), B [out, rank] at zero, so that the first output is the base's. After
    `start_from` another pair, that pair is subtracted from then on: the first output is the base's again.
    """

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float, generator: torch.Generator) -> None:
        super().__init__(base)
        inputs, outputs = features(base)
        bound = 1 / math.sqrt(inputs)
        start = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(start.to(self.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=self.weight.device))
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.start_A: Tensor | None
        self.start_B: Tensor | None
        self.register_buffer("start_A", None)
        self.register_buffer("start_B", None)

    def start_from(self, a: Tensor, b: Tensor) -> None:
        """Take A [rank, in] and B [out, rank] as the start, and as what is subtracted."""
        with torch.no_grad():
            self.lora_A.copy_(a)
            self.lora_B.copy_(b)
        self.start_A, self.start_B = self.lora_A.detach().clone(), self.lora_B.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        product = self.low_rank() if self.active else None
        if product is not None:
            return added(x, frozen(self.base) or self.base(x), product, self.dropout)
        y: Tensor = self.base(x)
        return y + self.product(x).to(y.dtype) if self.active else y

    def product(self, x: Tensor) -> Tensor:
        """What is added to the base's output, operation by operation: [batch, time, in] -> [batch, time, out]."""
        x = in_type_of(self.lora_A, x)
        low = nn.functional.linear(self.dropout(x), self.lora_A)  # [batch, time, rank]
        y = nn.functional.linear(low, self.lora_B)
        if self.start_A is not None and self.start_B is not None:
            y = y - nn.functional.linear(nn.functional.linear(x, self.start_A), self.start_B)
        return self.scale * y

    def low_rank(self) -> surgery.LowRank | None:
        """The product, unless a start is subtracted from it."""
        if self.start_A is not None or self.start_B is not None:
            return None
        return surgery.LowRank(self.lora_A, self.lora_B, self.scale, self.dropout.p)

    def factors(self) -> tuple[Tensor, Tensor]:
        """The pair (A, B) whose product, times the scale, is what was added; of twice the rank where a start is
        subtracted: B A - B0 A0 = [B, -B0] [A; A0].
        """
        if self.start_A is None or self.start_B is None:
            return self.lora_A, self.lora_B
        return torch.cat([self.lora_A, self.start_A]), torch.cat([self.lora_B, -self.start_B], dim=1)

    def delta(self) -> Tensor:
        """What is added to the base's weight, in float32: scale * B A, [out, in]."""
        a, b = self.factors()
        return self.scale * (exact(b) @ exact(a))

    def merged(self) -> nn.Module:
        """The base with `delta` added to its weight, in float32, then in the base's type."""
        return with_weight(self.base, weight_of(self.base) + self.delta())


class LoraEmbedding(surgery.Wrapper):
    """Frozen embeddings with a low-rank product beside them: `base(ids) + scale * A^T[ids] B^T`.

    A [rank, vocabulary] starts at zero, B [hidden, rank] standard normal: the other way round than in a linear.
    """

    def __init__(self, base: nn.Embedding, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__(base)
        words, hidden = base.weight.shape
        self.lora_embedding_A = nn.Parameter(torch.zeros(rank, words, device=base.weight.device))
        start = torch.empty(hidden, rank).normal_(generator=generator)
        self.lora_embedding_B = nn.Parameter(start.to(base.weight.device))
        self.scale = scale

    def forward(self, ids: Tensor) -> Tensor:
        """[batch, time] -> [batch, time, hidden]."""
        y: Tensor = self.base(ids)
        if not self.active:
            return y
        low = nn.functional.embedding(ids, self.lora_embedding_A.T)  # [batch, time, rank]
        return y + (self.scale * nn.functional.linear(low, self.lora_embedding_B)).to(y.dtype)

    def merged(self) -> nn.Module:
        """The embeddings with scale * (B A)^T added, in float32, then in their own type."""
        delta = self.scale * (exact(self.lora_embedding_B) @ exact(self.lora_embedding_A)).T  # [vocabulary, hidden]
        weight = self.weight.detach()
        plain: nn.Embedding = nn.Embedding.from_pretrained((weight.float() + delta).to(weight.dtype), freeze=True)
        plain.padding_idx = cast(nn.Embedding, self.base).padding_idx
        return plain


def principal(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """PiSSA's start: (A, B) with scale * B A the best approximation of rank r of `weight` [out, in].

    With W = U S V^T: B = U_r sqrt(S_r / scale) [out, rank], A = sqrt(S_r / scale) V_r^T [rank, in].
    """
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * v[:rank], u[:, :rank] * root


@dataclass(frozen=True)
class Strength:
    """Rank and alpha of every place: the common ones, and those of the patterns that match its path."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    stabilised: bool

    def of(self, path: str) -> tuple[int, float]:
        """(rank, scale) of a place; scale = alpha / rank, or alpha / sqrt(rank) if stabilised."""
        rank = next((r for pattern, r in self.rank_pattern.items() if matching(pattern, [path], "")), self.rank)
        return rank, self.alpha_of(path) / (math.sqrt(rank) if self.stabilised else rank)

    def alpha_of(self, path: str) -> float:
        """Alpha of a place."""
        return next((a for pattern, a in self.alpha_pattern.items() if matching(pattern, [path], "")), self.alpha)

    def check(self, places: Mapping[str, nn.Module]) -> None:
        """Refuse, with ModelError, patterns that match no place, and ranks that a place can't have."""
        for setting in ("rank_pattern", "alpha_pattern"):
            for pattern in getattr(self, setting):
                if not matching(pattern, list(places), f"method.{setting}"):
                    raise ModelError(
                        f"method.{setting} {pattern!r} matches none of the chosen places.",
                        hint=f"They are: {', '.join(list(places)[:8])}{', …' if len(places) > 8 else ''}",
                    )
        for path, place in places.items():
            check_rank(self.of(path)[0], path, place)


def check_rank(rank: int, path: str, place: nn.Module) -> None:
    """Refuse a rank that is larger than the layer: ModelError."""
    sizes = place.weight.shape if isinstance(place, nn.Embedding) else features(place)
    if rank > min(sizes):
        raise ModelError(
            f"method.rank {rank} is larger than the layer {path}, which is {sizes[0]} by {sizes[1]}.",
            hint=f"Choose at most {min(sizes)}; below half of that a low-rank product is smaller than the layer.",
        )
