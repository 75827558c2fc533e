"""What a run says of itself: where it ran, on which data, what it cost, and whether it learned."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tunesmith.core import surgery
from tunesmith.core.notes import warn
from tunesmith.core.panel import Panel
from tunesmith.core.registry import spec
from tunesmith.data.load import Splits
from tunesmith.models import origin
from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe
from tunesmith.train.log import lines
from tunesmith.version import VERSION

METRICS = "metrics.jsonl"
HARDLY = 0.95
LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors")


def environment(recipe: Recipe, splits: Splits) -> dict[str, Any]:
    """Versions, machine, seed, and the data by their hashes."""
    return {
        **versions(recipe),
        "base_model": origin.hub_name(recipe.model),
        "method": spec(recipe.method),
        "columns": splits.columns,
        "data": splits.sources,
    }


def versions(recipe: Recipe) -> dict[str, Any]:
    """What was used: versions, machine, seed."""
    return {
        "tunesmith": VERSION,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "device": recipe.train.device,
        "precision": recipe.train.precision,
        "seed": recipe.train.seed,
    }


def mixed(folder: Path, prepared: Prepared) -> list[Panel]:
    """The files of a training that has several, with what was seen of each; before it, with what an epoch takes."""
    mix, path = prepared.batches.mix, folder / METRICS
    if mix is None:
        return []
    seen = [line["seen"] for line in lines(path) if line["event"] == "files"] if path.exists() else []
    return [mix.panel(seen[-1] if seen else None)]


def cost(folder: Path, prepared: Prepared) -> dict[str, Any]:
    """What the training cost; seconds are those of its updates, without evaluations, checkpoints and pauses."""
    settings = prepared.recipe.train
    record = lines(folder / METRICS)
    steps = [line for line in record if line["event"] == "step"]
    seconds = sum(line["seconds"] for line in steps)
    model = prepared.backbone.model
    # Counted by name: what a part froze on the way was trained too.
    trains = sum(p.numel() for name, p in model.named_parameters() if name in prepared.training.trained)
    every = surgery.count(model)[1]
    return {
        "seconds": seconds,
        "examples_per_second": sum(line["examples"] for line in steps) / seconds if seconds else 0.0,
        "peak_memory_bytes": max((line["peak_bytes"] for line in record if line["event"] == "memory"), default=None),
        "trained_parameters": trains,
        "total_parameters": every,
        "device": settings.device,
        "precision": settings.precision,
    }


def judge(folder: Path) -> None:
    """Say when the training loss hardly changed, or rose: the rate or the length of the training is wrong."""
    losses = [line["loss"] for line in lines(folder / METRICS) if line["event"] == "step"]
    if len(losses) > 1 and losses[-1] > HARDLY * losses[0]:
        rose = HARDLY * losses[-1] > losses[0]
        change, cure = ("rose", "lower") if rose else ("hardly changed", "train longer (train.epochs), or raise")
        warn(f"The training loss {change}, from {losses[0]:.3g} to {losses[-1]:.3g}: {cure} train.learning_rate.")
