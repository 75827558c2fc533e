"""How much gradient reaches each place of a model, from its embeddings to its head.

|g_place| = sqrt(sum_i |g_i|^2), over the gradients g_i of the place's parameters, before they are clipped. The |g_i|
are those that the norm of the update's gradient is made of: to tell a step costs a look at a few hundred numbers more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tunesmith.core.places import BOTTOM, Places, places

BESIDE = "parts"
"""The place of what trains and belongs to a part, not to the model."""


class Flow:
    """The norms of gradients by the places of a model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        where = places(model)
        self._place = {id(p): called(where, where.of[name]) for name, p in model.named_parameters()}
        self._names = [called(where, place) for place in sorted(set(where.of.values()))]

    def of(self, norms: Mapping[nn.Parameter, Tensor], factor: float = 1.0) -> dict[str, float | None]:
        """The norm a place, `factor` times that of `norms` (of every gradient, a scalar); None where there is no
        gradient: the place is frozen.
        """
        if not norms:
            return dict.fromkeys(self._names)
        device = next(iter(norms.values())).device
        values: list[float] = torch.stack([one.to(device, torch.float32) for one in norms.values()]).tolist()
        sums: dict[str, float] = {}
        for parameter, value in zip(norms, values, strict=True):
            name = self._place.get(id(parameter), BESIDE)
            sums[name] = sums.get(name, 0.0) + value**2
        found = {name: math.sqrt(sums[name]) * factor if name in sums else None for name in self._names}
        return found | ({BESIDE: math.sqrt(sums[BESIDE]) * factor} if BESIDE in sums else {})


def called(where: Places, place: int) -> str:
    """What a reader calls a place; blocks are counted from 1, of an encoder-decoder those of both stacks."""
    ends = {BOTTOM: "embeddings", where.above: "above the blocks", where.head: "head"}
    return ends.get(place, f"block {place}")
