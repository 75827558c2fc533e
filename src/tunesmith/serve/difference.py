"""A folder that works as a run does, and holds of its model only what the backbone has not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tunesmith.core import difference, sharing
from tunesmith.core.errors import ArtifactError, ModelError, RecipeError
from tunesmith.core.files import write_json, writing_folder
from tunesmith.models import artifact
from tunesmith.models.load import Backbone
from tunesmith.serve import card
from tunesmith.serve.attach import Attached
from tunesmith.serve.folder import MODEL, PROBE, RECIPE, TASK, check_free

EXACT = "exact"


def parse(text: str) -> int | None:
    """The rank of `rank=N`; None for `exact`. Anything else raises RecipeError."""
    if text == EXACT:
        return None
    word, _, number = text.partition("=")
    if word != "rank" or not number.isdecimal() or not int(number):
        raise RecipeError(
            f"--as-delta {text!r} is neither 'exact' nor 'rank=N' with N at least 1.", hint="For example: rank=16."
        )
    return int(number)


def write(
    run: Attached, model: PreTrainedModel, base: Backbone, out: Path, rank: int | None, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Write what `model` has other than the backbone, with the recipe, task and rows of `run`, to `out`.

    What was written is loaded again before it takes its place: an exact one must have every bit of the model, or
    ArtifactError is raised; of one of low rank the differences are measured. `told` and the figures, which are
    returned, are kept beside it. Quantised backbones raise ModelError.
    """
    check_free(out)
    if getattr(run.recipe.model, "quantize", None) is not None:
        raise ModelError(
            f"The backbone {base.name} is quantised: what was merged has no difference to it that could be kept.",
            hint="Leave --as-delta out.",
        )
    if run.recipe.model.scratch:
        raise ModelError(
            f"The backbone {base.name} has random weights, which nobody else has: no difference to it is kept.",
            hint="Leave --as-delta out.",
        )
    batches = run.probe()
    expected = artifact.outputs(model, batches)
    with writing_folder(out) as temporary:
        for name in (RECIPE, PROBE):
            shutil.copyfile(run.folder / name, temporary / name)
        write_json(temporary / TASK, run.recipe.task.state())
        kept = temporary / MODEL
        kept.mkdir()
        error = difference.write(model, base.model, kept, rank)
        model.config.save_pretrained(kept)
        artifact.accompany(run.backbone, run.recipe.task, kept)
        base.identity.write(kept)
        recipe = run.recipe
        loaded = artifact.load(kept, recipe.model, recipe.task, recipe.method, recipe.train.seed)
        found = artifact.outputs(loaded.model, batches)
        artifact.check_finite(found)
        if rank is None:
            _prove(model, loaded.model)
        figures = {
            **told,
            "relative_error": error,
            "largest_difference": artifact.largest_difference(expected, found),
            "bytes": (kept / difference.FILE).stat().st_size,
            "bytes_of_the_model": sum(tensor.nbytes for tensor in model.parameters()),
        }
        difference.measured(kept, figures)
        card.write_merged(kept, figures, run=True)
    return figures


def _prove(model: PreTrainedModel, loaded: PreTrainedModel) -> None:
    ours, theirs = sharing.named(model), sharing.named(loaded)
    other = [name for name, tensor in ours.items() if not sharing.same_bits(tensor, theirs[name])]
    if other:
        raise ArtifactError(
            f"The difference gives other weights than the model: {other[0]} ({len(other)} such).",
            hint="This is a defect of tunesmith or of a library; nothing was written.",
        )
