"""GraLoRA: a low-rank product for every block of a weight that is cut into a grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.core import anatomy, delta, surgery, targets
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import features, in_type_of, transposed, weight_of, with_weight
from tunesmith.core.part import Method
from tunesmith.core.step import Training
from tunesmith.methods.low_rank import check_rank


class Gralora(Method):
    """Train a low-rank product for each of the k x k blocks of every chosen weight, and the head.

    Formula: y = W x + b + s D dropout(x); merged: W + s D. Block (i, j) of D is (A_ji B_ij)^T, to which D adds H G
    where `hybrid_rank` is not zero. s = alpha / (r + h).
    Symbols: W [out, in] frozen, cut into k slices of inputs, j, and k of outputs, i. A_ji [in/k, r/k] are columns
    i r/k … (i + 1) r/k of A[j], and B_ij [r/k, out/k] rows j r/k … (j + 1) r/k of B[i]. H [out, h] and G [h, in] are a
    plain LoRA's. At the start B and H are zero, A uniform in ±sqrt(k/in), G in ±1/sqrt(in). k is `blocks`, h
    `hybrid_rank`.
    Shapes: A [k, in/k, r], B [k, r, out/k]. D has rank k r + h at most, LoRA's of as many parameters r + h.
    Parameters: the sum of (r + h) (in + out) over the chosen linears, whatever k is, and the head's.
    Paper: Jung, Ahn, Kim, Kim, Park, "GraLoRA: Granular Low-Rank Adaptation for Parameter-Efficient Fine-Tuning", 2025.
    Its r is the whole rank, ours peft's: that of the blocks, to which h is added. It takes k = 2 for ranks 16 and 32,
    k = 4 for 64 and 128, and of rank 16 half for h. Both parts drop the same inputs; in its code and in peft each draws
    for itself.
    """

    # The paper's GLUE runs take VeRA's rates divided by 5 to 10, near this; its others use Lion, at 2e-4 or 4e-4.
    learning_rate = 5e-4
    delta = True
    keeps_backbone = True
    at_inference = "nothing once merged; before, two small products a layer, block by block"

    rank: int = Field(16, ge=1)
    """Inner size r of all blocks of a row or column together; each block's is rank / blocks."""
    hybrid_rank: int = Field(0, ge=0)
    """Inner size of a plain LoRA beside the blocks; the paper gives it half of small ranks, none of large ones."""
    blocks: int = Field(2, ge=1)
    """Into how many slices k inputs and outputs are cut; it must divide the rank and the layers. 1 is LoRA."""
    alpha: float = Field(32.0, gt=0)
    """Strength: the products are multiplied by alpha / (rank + hybrid_rank)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the input's features dropped before A, in training."""
    targets: str = "all-linear"
    """`all-linear` (every linear of the blocks), `attention` (queries and values), or a pattern that must match a
    path whole or its last words (`value`, `output.dense`).
    """
    start: str | None = None
    """Folder of a GraLoRA delta in peft's layout, of the same ranks, blocks, alpha and targets, to start from."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.rank % self.blocks:
            raise ValueError(
                f"rank {self.rank} can't be shared by {self.blocks} blocks; blocks may be "
                f"{_divisors(self.rank, self.blocks)}"
            )
        return self

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap the chosen linears. Targets that match nothing, layers that can't be cut into
        the blocks, and ranks larger than their layer raise ModelError.
        """
        places = targets.choose(model, self.targets)
        self._check(places)
        surgery.freeze_backbone(model)
        for path, place in places.items():
            surgery.replace(model, path, GraloraLinear(place, self, generator))

    def setup(self, training: Training) -> None:
        """Take the delta to start from, where the recipe names one."""
        if self.start is not None:
            delta.read(training.model, self, Path(self.start))

    def expected(self, model: nn.Module) -> int:
        """Sum of (r + h) (in + out), and the head."""
        sizes = sum(sum(features(wrapper.base)) for wrapper in _linears(model).values())
        return (self.rank + self.hybrid_rank) * sizes + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """A and B of every place, and the plain pair's, by peft's names."""
        return {
            f"{delta.PREFIX}{path}.{name}{'.weight' if name.endswith('_general') else ''}": tensor
            for path, wrapper in _linears(model).items()
            for name, tensor in wrapper.named_parameters(recurse=False)
        }

    def peft_config(self, model: nn.Module) -> dict[str, Any]:
        """The entries of a GraloraConfig."""
        places = {path: wrapper.base for path, wrapper in _linears(model).items()}
        return {
            "peft_type": "GRALORA",
            "r": self.rank,
            "hybrid_r": self.hybrid_rank,
            "gralora_k": self.blocks,
            "alpha": self.alpha,
            "gralora_dropout": self.dropout,
            "target_modules": sorted(places),
            "bias": "none",
            "fan_in_fan_out": any(transposed(base) for base in places.values()),
            "init_weights": True,
        }

    def merge(self, model: nn.Module) -> None:
        """W + s D in place of every wrapper."""
        surgery.merge(model)

    def _check(self, places: dict[str, nn.Linear | Conv1D]) -> None:
        common = math.gcd(self.rank, *(size for place in places.values() for size in features(place)))
        for path, place in places.items():
            inputs, outputs = features(place)
            if inputs % self.blocks or outputs % self.blocks:
                raise ModelError(
                    f"method.blocks {self.blocks} does not divide the layer {path}, which is {inputs} by {outputs}; "
                    f"rank {self.rank} and the chosen layers allow {_divisors(common, self.blocks)}.",
                    hint="Choose one of these, or leave the layer out with method.targets.",
                )
            check_rank(self.rank, path, place)
            if self.hybrid_rank > min(inputs, outputs):
                raise ModelError(
                    f"method.hybrid_rank {self.hybrid_rank} is larger than the layer {path}, which is {inputs} by "
                    f"{outputs}.",
                    hint=f"Choose at most {min(inputs, outputs)}.",
                )


class GraloraLinear(surgery.Wrapper):
    """A frozen linear with a low-rank product beside each of its blocks: `base(x) + scale * D dropout(x)`.

    A [k, in/k, rank] is indexed by the slice of inputs, B [k, rank, out/k] by the slice of outputs.
    """

    gralora_A_general: nn.Parameter | None
    gralora_B_general: nn.Parameter | None

    def __init__(self, base: nn.Module, settings: Gralora, generator: torch.Generator) -> None:
        super().__init__(base)
        (inputs, outputs), device = features(base), self.weight.device
        k, rank, hybrid = settings.blocks, settings.rank, settings.hybrid_rank
        bound = math.sqrt(k / inputs)
        start = torch.empty(k, inputs // k, rank).uniform_(-bound, bound, generator=generator)
        self.gralora_A = nn.Parameter(start.to(device))
        self.gralora_B = nn.Parameter(torch.zeros(k, rank, outputs // k, device=device))
        self.gralora_A_general = self.gralora_B_general = None
        if hybrid:
            bound = 1 / math.sqrt(inputs)
            start = torch.empty(hybrid, inputs).uniform_(-bound, bound, generator=generator)
            self.gralora_A_general = nn.Parameter(start.to(device))
            self.gralora_B_general = nn.Parameter(torch.zeros(outputs, hybrid, device=device))
        self.blocks = k
        self.scale = settings.alpha / (rank + hybrid)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        y: Tensor = self.base(x)
        return y + self.product(x).to(y.dtype) if self.active else y

    def product(self, x: Tensor) -> Tensor:
        """What is added to the base's output: [batch, time, in] -> [batch, time, out]."""
        x, k = self.dropout(in_type_of(self.gralora_A, x)), self.blocks
        low = torch.einsum("...jp,jpr->...jr", x.unflatten(-1, (k, -1)), self.gralora_A)  # [batch, time, k, rank]
        # Slice j of the inputs gives its rank numbers to k slices of outputs, rank/k to each: they stand in the order
        # (j, i, rank/k). A slice of outputs takes its share from every slice of inputs: the two axes change places.
        # Without the swap each slice of outputs would see one slice of inputs: D would be block-diagonal, and train.
        low = low.unflatten(-1, (k, -1)).transpose(-3, -2).flatten(-2)  # [batch, time, k, rank]
        y = torch.einsum("...ir,irq->...iq", low, self.gralora_B).flatten(-2)  # [batch, time, out]
        if self.gralora_A_general is not None and self.gralora_B_general is not None:
            low = nn.functional.linear(x, self.gralora_A_general)  # [batch, time, hybrid_rank]
            y = y + nn.functional.linear(low, self.gralora_B_general)
        return self.scale * y

    def delta(self) -> Tensor:
        """What is added to the base's weight, in float32: scale * D, [out, in]."""
        kind, k = torch.promote_types(self.gralora_A.dtype, torch.float32), self.blocks
        a = self.gralora_A.detach().to(kind).unflatten(2, (k, -1))  # [k (j), in/k, k (i), rank/k]
        b = self.gralora_B.detach().to(kind).unflatten(1, (k, -1))  # [k (i), k (j), rank/k, out/k]
        grid = torch.einsum("jpic,ijcq->iqjp", a, b).flatten(2).flatten(0, 1)  # [out, in]
        if self.gralora_A_general is not None and self.gralora_B_general is not None:
            grid = grid + self.gralora_B_general.detach().to(kind) @ self.gralora_A_general.detach().to(kind)
        return self.scale * grid

    def merged(self) -> nn.Module:
        """The base with `delta` added to its weight, in float32, then in the base's type."""
        return with_weight(self.base, weight_of(self.base) + self.delta())


def _linears(model: nn.Module) -> dict[str, GraloraLinear]:
    return {path: found for path, found in surgery.wrappers(model).items() if isinstance(found, GraloraLinear)}


def _divisors(number: int, near: int) -> str:
    """The divisors of a number, the nearest to another one first."""
    found = [divisor for divisor in range(1, number + 1) if number % divisor == 0]
    return ", ".join(str(divisor) for divisor in sorted(found, key=lambda divisor: abs(divisor - near)))
