"""DoRA: the length of every row of a weight, and its direction, learned apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from tunesmith.core import delta, surgery, targets
from tunesmith.core.linear import features, in_type_of, weight_of, with_weight
from tunesmith.core.part import Method
from tunesmith.core.sealed import number
from tunesmith.core.step import Training
from tunesmith.methods.lora import Lora
from tunesmith.methods.low_rank import LoraLinear, Strength


class Dora(Method):
    """Train the length of every row of the chosen weights, their directions by LoRA, and the head.

    Formula: y = g * ((W + s B A) x) + b, with g = m / |W + s B A|; merged: W' = g * (W + s B A). |.| is the length of
    every row, through which no gradient flows; * goes by row. s = alpha / r, or alpha / sqrt(r) if rank-stabilised.
    With dropout, in training: y = W x + b + (g - 1) * (W d) + g * (s B A d), where d = dropout(x).
    Symbols: W [out, in] and b frozen; A [r, in], uniform in ±1/sqrt(in) at the start; B [out, r], zero at the start;
    m [out], |W| at the start, so that g is 1.
    Parameters: the sum of r (in + out) + out over the chosen linears, and the head's.
    Paper: Liu, Wang, Yin, Molchanov, Wang, Cheng, Chen, "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024. Its
    columns are the rows here, for it writes W the other way round. The length is a constant for the gradient, as in its
    section 4.3; dropout is peft's. m is a vector, so weight decay leaves it alone: it would shrink the layer. A row of
    zeros has no direction: it stays zero, where the formula divides by zero.
    """

    # LoRA's, for backbones of our usual size; the released scripts take 2e-4 for LLaMA2-7B and 1e-4 for LLaMA3-8B.
    learning_rate = 2e-3
    delta = True
    keeps_backbone = True
    at_inference = "nothing once merged; before, two small products a layer, and the lengths of the rows anew"

    rank: int = Field(8, ge=1)
    """Inner size r of the two matrices."""
    alpha: float = Field(16.0, gt=0)
    """Strength: the product is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the input's features dropped before what is added, in training."""
    targets: str = "attention"
    """`attention` (queries and values), `all-linear` (every linear of the blocks), or a pattern that must match a
    path whole or its last words (`value`, `output.dense`).
    """
    rank_pattern: dict[str, int] = Field(default_factory=dict)
    """Other ranks for the places that a pattern matches, for example {value: 16}."""
    alpha_pattern: dict[str, float] = Field(default_factory=dict)
    """Other strengths for the places that a pattern matches."""
    rank_stabilised: bool = False
    """Whether the product is multiplied by alpha / sqrt(rank) instead (rsLoRA)."""
    start: str | None = None
    """Folder of a DoRA delta in peft's layout, of the same rank, alpha and targets, to start from."""

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _above_zero(cls, given: dict[str, float]) -> dict[str, float]:
        if bad := {pattern: number for pattern, number in given.items() if not number > 0}:
            raise ValueError(f"needs numbers above 0, not {bad}")
        return given

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap the chosen linears. Targets or patterns that match nothing, and ranks larger
        than their layer, raise ModelError.
        """
        places = targets.choose(model, self.targets)
        strength = Strength(self.rank, self.alpha, self.rank_pattern, self.alpha_pattern, self.rank_stabilised)
        strength.check(places)
        surgery.freeze_backbone(model)
        for path, place in places.items():
            surgery.replace(model, path, DoraLinear(place, *strength.of(path), self.dropout, generator))

    def setup(self, training: Training) -> None:
        """Take the delta to start from, where the recipe names one."""
        if self.start is not None:
            delta.read(training.model, self, Path(self.start))

    def expected(self, model: nn.Module) -> int:
        """Sum of r (in + out) + out, and the head."""
        return self._lora().expected(model) + sum(features(wrapper.base)[1] for wrapper in _linears(model).values())

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """A, B and m of every place, by peft's names."""
        magnitudes = {
            f"{delta.PREFIX}{path}.lora_magnitude_vector": wrapper.lora_magnitude_vector
            for path, wrapper in _linears(model).items()
        }
        return {**self._lora().tensors(model), **magnitudes}

    def peft_config(self, model: nn.Module) -> dict[str, Any]:
        """The entries of a LoraConfig with DoRA."""
        return {**self._lora().peft_config(model), "use_dora": True}

    def merge(self, model: nn.Module) -> None:
        """g * (W + s B A) in place of every wrapper."""
        surgery.merge(model)

    def _lora(self) -> Lora:
        """LoRA with the same settings: what it says of A and B holds here too."""
        return Lora(**self.model_dump())


class DoraLinear(LoraLinear):
    """A frozen linear whose rows have a length that trains, and a direction that a low-rank product turns.

    `base(x) + (g - 1) * (W d) + g * (scale * B A d)`, with d = dropout(x) and g = m / |W + scale * B A|.
    """

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float, generator: torch.Generator) -> None:
        super().__init__(base, rank, scale, dropout, generator)
        lengths = torch.linalg.vector_norm(weight_of(base), dim=1)  # [out]
        self.lora_magnitude_vector = nn.Parameter(lengths.to(self.lora_A.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        y: Tensor = self.base(x)
        if not self.active:
            return y
        growth = self.growth(self.turned())
        dropped = self.dropout(in_type_of(self.lora_A, x))
        low = nn.functional.linear(dropped, self.lora_A)  # [batch, time, rank]
        product = self.scale * nn.functional.linear(low, self.lora_B)  # [batch, time, out]
        return y + ((growth - 1) * self.straight(dropped, y) + growth * product).to(y.dtype)

    def straight(self, dropped: Tensor, y: Tensor) -> Tensor:
        """W d [batch, time, out]: without dropout it is in the base's output `y` already, with the bias, unless another
        delta stands between.
        """
        if (self.training and self.dropout.p > 0) or number(self.base):
            return nn.functional.linear(dropped, weight_of(self.base).to(dropped.dtype))
        y = y.to(self.lora_A.dtype)
        return y if self.bias is None else y - self.bias

    @torch.no_grad()
    def turned(self) -> Tensor:
        """W + scale * B A in float32, [out, in], without a gradient."""
        with torch.autocast(self.lora_A.device.type, enabled=False):
            return weight_of(self.base) + self.delta()

    def growth(self, turned: Tensor) -> Tensor:
        """g = m / |turned| [out]: how much longer every row gets; the gradient flows to m alone."""
        lengths: Tensor = torch.linalg.vector_norm(turned, dim=1)
        # Of a row of zeros m is zero too: nothing over the smallest number is nothing, not NaN.
        return self.lora_magnitude_vector / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)

    def merged(self) -> nn.Module:
        """The base with g * (W + scale * B A), in float32, then in the base's type."""
        turned = self.turned()
        return with_weight(self.base, self.growth(turned).detach()[:, None] * turned)


def _linears(model: nn.Module) -> dict[str, DoraLinear]:
    return {path: found for path, found in surgery.wrappers(model).items() if isinstance(found, DoraLinear)}
