"""Subspace: few numbers that move every matrix of the blocks at once, in directions drawn at random."""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from tunesmith.core import anatomy, surgery, targets
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import features, in_type_of, weight_of, with_weight
from tunesmith.core.part import Method

STEP, MIXERS = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""SplitMix64's constants: between two of its states; shifts and factors that mix one."""


class Subspace(Method):
    """Train a few numbers that move every matrix of the blocks along fixed random directions, and the head.

    Formula: theta = theta_0 + P z; merged: the same. Row i of P holds one number besides zeros: P_ij = c s_i, j = h_i.
    Symbols: theta [D] all weights of the blocks' linears, one after the other; z [d] trains and starts at 0; c is
    `scale`; h_i and the sign s_i are mixed from i, so that P needs no memory of its own and is the same everywhere. No
    two columns of P meet in a weight: they are orthogonal, of length c sqrt(D / d) up to how evenly h falls.
    Parameters: d, and the head's.
    Paper: Li, Farkhoor, Liu, Yosinski, "Measuring the Intrinsic Dimension of Objective Landscapes", 2018; Aghajanyan,
    Gupta, Zettlemoyer, "Intrinsic Dimensionality Explains the Effectiveness of Language Model Fine-Tuning", 2021. They
    draw P dense or by the Fastfood transform and move every weight, biases, norms, embeddings and the head among them;
    ours moves matrices, by a sparse P, and the head trains beside it and does not count into d. Their columns have
    length 1, which wants another rate for every d; with c a step of Adam moves a weight by c times the rate, whatever d
    is. Mixed by SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014). Rates and
    freezing by block take z for a number of the lowest block.
    """

    learning_rate = 1e-2
    delta = True
    keeps_backbone = True
    at_inference = "nothing once merged; before, a second product with every matrix"

    dimension: int = Field(1000, ge=1)
    """How many numbers d train, beside the head."""
    scale: float = Field(0.2, gt=0)
    """How far a number c moves its weights, for each unit of it."""
    targets: str = "all-linear"
    """`all-linear` (every linear of the blocks), `attention` (queries and values), or a pattern that must match a
    path whole or its last words (`value`, `output.dense`).
    """

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap the chosen linears; more dimensions than they have weights raise ModelError."""
        places = targets.choose(model, self.targets)
        sizes = [math.prod(features(place)) for place in places.values()]
        if self.dimension > sum(sizes):
            raise ModelError(
                f"method.dimension {self.dimension:,} is more than the {sum(sizes):,} weights that would move.",
                hint="Choose a smaller one, or train all of them: method=full.",
            )
        surgery.freeze_backbone(model)
        z = nn.Parameter(torch.zeros(self.dimension, device=next(iter(places.values())).weight.device))
        first = 0
        for (path, place), size in zip(places.items(), sizes, strict=True):
            surgery.replace(model, path, SubspaceLinear(place, z, first, self.scale))
            first += size

    def expected(self, model: nn.Module) -> int:
        """d, and the head."""
        return self.dimension + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """z, which all wrappers share, by its path in the first."""
        path, wrapper = next(iter(_linears(model).items()))
        return {f"{path}.z": wrapper.z}

    def merge(self, model: nn.Module) -> None:
        """Every weight with its part of P z added, in place of the wrappers."""
        surgery.merge(model)


class SubspaceLinear(surgery.Wrapper):
    """A frozen linear with its part of P z added to its weight: `base(x) + x (P z)^T`. first: the number i of its first
    weight; scale: c.
    """

    where: Tensor

    def __init__(self, base: nn.Module, z: nn.Parameter, first: int, scale: float) -> None:
        super().__init__(base)
        self.z, self.scale = z, scale
        inputs, outputs = features(base)
        found = directions(first, inputs * outputs, len(z))
        # It follows from `first`: no file needs it.
        self.register_buffer("where", torch.from_numpy(found).to(z.device), persistent=False)
        self.shape = (outputs, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        y: Tensor = self.base(x)
        return y + nn.functional.linear(in_type_of(self.z, x), self.change()).to(y.dtype) if self.active else y

    def change(self) -> Tensor:
        """This weight's part of P z, [out, in]."""
        signed = torch.cat([self.z, -self.z]) * self.scale  # [2 d]
        return signed.index_select(0, self.where).view(self.shape)

    def merged(self) -> nn.Module:
        """The base with its part of P z in its weight, in float32."""
        weight = weight_of(self.base)
        return with_weight(self.base, weight + self.change().detach().to(weight.dtype))


def directions(first: int, count: int, dimension: int) -> np.ndarray:
    """For the weights from number `first` on [count] the coordinate of z that moves each; those that move it the other
    way are larger by d.

    Formula: SplitMix64's mixing of i, of which the remainder by 2 d is taken.
    """
    i = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(STEP)  # wraps, as it should
    for shift, factor in MIXERS:
        i = (i ^ (i >> np.uint64(shift))) * np.uint64(factor)
    i ^= i >> np.uint64(31)
    return (i % np.uint64(2 * dimension)).astype(np.int32)


def _linears(model: nn.Module) -> dict[str, SubspaceLinear]:
    return {path: found for path, found in surgery.wrappers(model).items() if isinstance(found, SubspaceLinear)}
