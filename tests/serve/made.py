"""Runs made without training: a tiny model, moved a little from where it starts, in a folder as a run leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests import toy
from tunesmith.core import surgery
from tunesmith.core.files import write_json, write_text
from tunesmith.models import artifact
from tunesmith.serve.session import MODEL, PROBE, RECIPE, TASK, probe_batches

ROWS = [{"text": "amber basil cedar"}, {"text": "delta"}, {"text": "ember fjord grove heron"}]
TEXTS = [row["text"] for row in ROWS]


def run(folder: Path, seed: int = 0, **values: Any) -> tuple[Path, list[torch.Tensor]]:
    """A run in `folder`, and what its model gives for ROWS."""
    toyed = toy.prepared(values)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in surgery.trained(toyed.training.model).values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
    folder.mkdir(parents=True)
    toy.save(toyed, folder / MODEL)
    write_text(folder / RECIPE, toyed.recipe.text())
    write_json(folder / TASK, toyed.recipe.task.state())
    write_json(folder / PROBE, ROWS)
    return folder, artifact.outputs(toyed.backbone.model, probe_batches(toyed.recipe, toyed.backbone, ROWS))


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Whether two lists of outputs are equal, but for the last bits: products depend on where in memory weights lie."""
    return artifact.largest_difference(first, second) <= 2e-6
