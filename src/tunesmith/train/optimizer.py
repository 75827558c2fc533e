"""AdamW over everything that trains, with decay where it belongs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import MissingExtraError, RecipeError
from tunesmith.core.part import Part
from tunesmith.train.adamw import AdamW
from tunesmith.train.settings import TrainSettings

USUAL = {"eps": 1e-8, "betas": (0.9, 0.999)}
EIGHT_BITS = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}
"""The classes of bitsandbytes by the recipe's word."""


def build(model: nn.Module, parts: Sequence[Part], settings: TrainSettings, rate: float) -> torch.optim.Optimizer:
    """AdamW with bias correction (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), its moments in
    float32, or in 8 bits (Dettmers and others, "8-bit Optimizers via Block-wise Quantization", 2022).

    A group for each decay (weights with `weight_decay`; biases, vectors and norms, by the type of their module,
    without) and each factor on the rate that a part names. Every group carries `names` and `peak`, its rate at the top
    of the schedule. Nothing to train raises RecipeError, a missing bitsandbytes MissingExtraError.
    """
    named = {**surgery.trained(model), **{name: p for part in parts for name, p in part.parameters()}}
    if not named:
        raise RecipeError("Nothing trains: the method freezes every weight.", hint="Choose another method.")
    plain = anatomy.undecayed(model)
    factors: dict[str, float] = {}
    for part in parts:
        for name, factor in part.rates(model).items():
            factors[name] = factors.get(name, 1.0) * factor
    gathered: dict[tuple[float, float], list[str]] = {}
    for name in named:
        # What a part brings along is known by its shape alone.
        decay = 0.0 if name in plain or named[name].dim() < 2 else settings.weight_decay
        gathered.setdefault((decay, factors.get(name, 1.0)), []).append(name)
    groups: list[dict[str, Any]] = [
        {"params": [named[name] for name in names], "names": names, "weight_decay": decay, "peak": rate * factor,
         "lr": rate * factor}
        for (decay, factor), names in sorted(gathered.items(), reverse=True)
    ]  # fmt: skip
    devices = {parameter.device.type for parameter in named.values()}
    if settings.optimizer != "adamw":
        return _in_eight_bits(settings.optimizer, model, groups, devices)
    # The fused kernel runs the whole update in one pass over memory; it exists for the CPU and for CUDA.
    return AdamW(groups, lr=rate, fused=devices <= {"cpu", "cuda"}, **USUAL)


def _in_eight_bits(
    word: str, model: nn.Module, groups: list[dict[str, Any]], devices: set[str]
) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW; moments of embeddings stay in 32 bits, as their rows are too unlike (ibid., section 2.3)."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            f"train.optimizer: {word} needs the package bitsandbytes, which is not installed.",
            hint="Install it: pip install 'tunesmith[quantize]'. Or leave train.optimizer out.",
        )
    if "mps" in devices or (word.startswith("paged") and devices != {"cuda"}):
        raise RecipeError(
            f"train.optimizer: {word} does not work on {' and '.join(sorted(devices))}.",
            hint="Leave it out; adamw works on every device, adamw_8bit on a CPU too.",
        )
    library = importlib.import_module("bitsandbytes")
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    library.optim.GlobalOptimManager.get_instance().override_config(tables, "optim_bits", 32)
    made: torch.optim.Optimizer = getattr(library.optim, EIGHT_BITS[word])(groups, **USUAL)
    return made
