"""IA3: vectors that scale keys, values and the feed-forward's inner state."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy, delta, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import features, transposed, weight_of, with_weight
from tunesmith.core.part import Method
from tunesmith.core.sealed import plain

SCALED = ("key", "value", "qkv")
"""Roles whose outputs are scaled; of `down` the input is."""


class Ia3(Method):
    """Train vectors that scale the keys, the values and the feed-forward's inner state, and the head.

    Formula: k = l_k * (W_k x + b_k); v = l_v * (W_v x + b_v); out = W_down (l_ff * u) + b_down, u the inner state.
    Merged: rows of W_k and W_v and their biases times l, columns of W_down times l, which is exact.
    Symbols: * goes by element; l_k, l_v [out] and l_ff [in] train and start at 1; they are not decayed, for decay would
    pull them to 0.
    Parameters: out of every key and value, in of every W_down, and the head's; 55,296 in BERT-base.
    Paper: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", 2022.
    They train with Adafactor at 3e-3; our rate is AdamW's, for small backbones. A gated feed-forward is scaled after
    the gate, where they scale the half that is not activated: the product is the same. Where one matrix makes queries,
    keys and values (GPT-2) all of its output is scaled, as in peft: a scaled query adds nothing that l_k could not do,
    and the delta is peft's. peft's default for BERT scales the input of the attention's output linear too, because that
    linear and the feed-forward's end in the same name; the paper and we do not. peft loads our delta as it is.
    """

    learning_rate = 1e-2
    delta = True
    keeps_backbone = True
    at_inference = "nothing once merged; before, three products by element a block"

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and put the vectors in; no keys and values, or no feed-forward, raise ModelError."""
        places = {path: role for path, role in anatomy.roles(model).items() if role in (*SCALED, "down")}
        if not {"down"} < set(places.values()):
            raise ModelError(
                f"ia3 scales keys, values and a feed-forward of linears; in {type(model).__name__} it finds "
                f"{', '.join(sorted(set(places.values()))) or 'none of them'}.",
                hint="Use another method: lora or bitfit.",
            )
        surgery.freeze_backbone(model)
        for path, role in places.items():
            surgery.replace(model, path, ScaledLinear(model.get_submodule(path), role == "down"))

    def expected(self, model: nn.Module) -> int:
        """The scaled features, and the head."""
        scaled = [features(wrapper.base)[0 if wrapper.inputs else 1] for wrapper in _scaled(model).values()]
        return sum(scaled) + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The vectors by peft's names and in its shapes, [out, 1] or [1, in]; they share the model's memory."""
        return {
            f"{delta.PREFIX}{path}.ia3_l": wrapper.ia3_l.detach().view(1, -1) if wrapper.inputs
            else wrapper.ia3_l.detach().view(-1, 1)
            for path, wrapper in _scaled(model).items()
        }  # fmt: skip

    def peft_config(self, model: nn.Module) -> dict[str, Any]:
        """The entries of an IA3Config; whole paths, for peft's patterns by ending would match too much."""
        made = _scaled(model)
        return {
            "peft_type": "IA3",
            "target_modules": sorted(made),
            "feedforward_modules": sorted(path for path, wrapper in made.items() if wrapper.inputs),
            "fan_in_fan_out": any(transposed(wrapper.base) for wrapper in made.values()),
            "init_ia3_weights": True,
        }

    def merge(self, model: nn.Module) -> None:
        """Rows or columns times the vectors, in place of every wrapper."""
        surgery.merge(model)


class ScaledLinear(surgery.Wrapper):
    """A frozen linear whose output, or whose input, is multiplied by a vector: `l * base(x)`, or `base(l * x)`."""

    def __init__(self, base: nn.Module, inputs: bool) -> None:
        super().__init__(base)
        self.inputs = inputs
        size = features(base)[0 if inputs else 1]
        self.ia3_l = nn.Parameter(torch.ones(size, device=self.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        if not self.active:
            return cast(Tensor, self.base(x))
        if self.inputs:
            return cast(Tensor, self.base((x * self.ia3_l).to(x.dtype)))
        y: Tensor = self.base(x)
        return (y * self.ia3_l).to(y.dtype)

    def merged(self) -> nn.Module:
        """The base with the vector in its weight (and bias, where the output is scaled), in float32."""
        base = plain(self.base)
        weight, own = weight_of(base), cast("Tensor | None", base.bias)  # [out, in], [out]
        scale = self.ia3_l.detach().to(weight.dtype)
        if self.inputs:
            return with_weight(base, weight * scale)
        bias = None if own is None else own.detach().to(weight.dtype) * scale
        return with_weight(base, weight * scale[:, None], bias)


def _scaled(model: nn.Module) -> dict[str, ScaledLinear]:
    return {path: found for path, found in surgery.wrappers(model).items() if isinstance(found, ScaledLinear)}
