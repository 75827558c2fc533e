"""AdamW over everything that trains, with decay where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Part
from tunesmith.train.settings import TrainSettings


def build(model: nn.Module, parts: Sequence[Part], settings: TrainSettings, rate: float) -> torch.optim.AdamW:
    """AdamW with bias correction (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).

    A group for each decay (weights with `weight_decay`; biases, vectors and norms, by the type of their module,
    without) and each factor on the rate that a part names. Every group carries `names` and `peak`, its rate at the top
    of the schedule. Nothing to train raises RecipeError.
    """
    named = {**surgery.trained(model), **{name: p for part in parts for name, p in part.parameters()}}
    if not named:
        raise RecipeError("Nothing trains: the method freezes every weight.", hint="Choose another method.")
    plain = anatomy.undecayed(model)
    factors = {name: factor for part in parts for name, factor in part.rates(model).items()}
    gathered: dict[tuple[float, float], list[str]] = {}
    for name in named:
        decay = 0.0 if name in plain else settings.weight_decay
        gathered.setdefault((decay, factors.get(name, 1.0)), []).append(name)
    groups: list[dict[str, Any]] = [
        {"params": [named[name] for name in names], "names": names, "weight_decay": decay, "peak": rate * factor,
         "lr": rate * factor}
        for (decay, factor), names in sorted(gathered.items(), reverse=True)
    ]  # fmt: skip
    # The fused kernel runs the whole update in one pass over memory; it exists for the CPU and for CUDA.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in named.values())
    return torch.optim.AdamW(groups, lr=rate, eps=1e-8, betas=(0.9, 0.999), fused=fused)
