"""Save a trained model so that it loads without tunesmith, load it again, and prove that nothing was lost.

A method that trains every weight saves a plain transformers model; the others save their delta, with the heads inside.
The tokenizer always goes along, and `backbone.json`, which says what the delta belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from tunesmith.core import delta, difference, surgery
from tunesmith.core.errors import ArtifactError, DivergedError, ModelError
from tunesmith.core.files import write_json
from tunesmith.core.part import Method, Task
from tunesmith.core.seeding import generator
from tunesmith.core.step import Batch
from tunesmith.models import identity, quantise, stack
from tunesmith.models import load as loading
from tunesmith.models.builtin import MINILM, MINILM_HUB_NAME, PREFIX
from tunesmith.models.load import Backbone, Below
from tunesmith.models.settings import ModelSettings

TOLERANCE = 1e-5


def write(backbone: Backbone, method: Method, task: Task, folder: Path) -> None:
    """Write model or delta, tokenizer, which backbone it came from, and the task's own files, into the empty
    `folder`.
    """
    transformers.logging.disable_progress_bar()
    model = backbone.model
    if method.delta:
        name = MINILM_HUB_NAME if backbone.name == f"{PREFIX}{MINILM}" else backbone.name
        below = stack.write(backbone, method, task, folder)
        # No name that a library could load the backbone by: the delta alone would give other answers on it.
        delta.write(model, method, folder, " with ".join([name, *below]))
        # Beside the delta, the configuration keeps the names of the classes.
        config: PreTrainedConfig = model.config
        config.save_pretrained(folder)
    else:
        model.save_pretrained(folder)
    accompany(backbone, task, folder)
    backbone.identity.write(folder)


def accompany(backbone: Backbone, task: Task, folder: Path) -> None:
    """Write what other libraries read beside a model's weights: tokenizer or image processor, the task's own files."""
    backbone.tokenizer.save_pretrained(folder)
    for name, content in task.companions(backbone.model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(folder / name, content)


def load(folder: Path, settings: ModelSettings, task: Task, method: Method, seed: int) -> Backbone:
    """The model that `write` wrote, with the earlier deltas that lie there, or one that is kept as its difference to
    the backbone.

    A delta on a backbone or on earlier deltas that are not those it was trained on raises ModelError.
    """
    tokenizer = loading.load_reader(str(folder), task.reads)
    differs = difference.there(folder)
    if not method.delta and not differs:
        model = loading.load_whole(folder, task.auto_classes)
        return loading.complete(model, tokenizer, identity.read(folder))
    settings = settings.on([]) if differs else stack.kept(settings, folder)
    backbone = stack.load(settings, task.auto_classes, task.head(), seed, task.reads)
    identity.check(identity.read(folder), backbone.identity, folder)
    if differs:
        difference.read(backbone.model, folder)
        return replace(backbone, tokenizer=tokenizer)
    shipped = method.shipped()
    shipped.modify(backbone.model, generator(seed, method.word()))
    delta.read(backbone.model, shipped, folder)
    return replace(backbone, tokenizer=tokenizer, limit=backbone.limit - method.positions())


def merge(model: PreTrainedModel, method: Method, below: Sequence[Below] = ()) -> None:
    """Fold what the method put in, and before it the deltas below, into the model's own weights; a quantised model
    becomes a plain one in float32.

    Raises ModelError where that can't be done.
    """
    for one in [*(earlier.method for earlier in below), method]:
        if one.cannot_merge:
            raise ModelError(
                f"A delta of '{one.word()}' can't be merged: {one.cannot_merge}.",
                hint="Use it attached: tunesmith predict, or Session.predict.",
            )
    quantise.dequantise(model)
    for number, earlier in enumerate(below, 1):
        with surgery.revealed(model, number):
            earlier.method.merge(model)
    method.merge(model)


@torch.inference_mode()
def outputs(model: PreTrainedModel, batches: Sequence[Batch]) -> list[Tensor]:
    """The model's outputs in evaluation mode and full precision, on the CPU."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    found = [_floats(model(**batch.to(device).inputs)).cpu() for batch in batches]
    model.train(training)
    return found


def _floats(outputs: Any) -> Tensor:
    """What a head gives: its logits, or those of starts and ends; without a head, the last hidden states."""
    names = ("logits", "start_logits", "end_logits")
    found = [outputs[name] for name in names if outputs.get(name) is not None] or [outputs["last_hidden_state"]]
    return torch.cat([tensor.float() for tensor in found])


def check_finite(trained: Sequence[Tensor]) -> None:
    """Refuse to save a model whose outputs are no numbers: its last updates diverged. Raises DivergedError."""
    if not all(output.isfinite().all() for output in trained):
        raise DivergedError(
            "The trained model's outputs are not finite numbers: its last updates diverged. No model is saved.",
            hint="Start a new run with a lower train.learning_rate (a tenth is a good next try).",
        )


def largest_difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest absolute difference of two lists of outputs; infinite where one is not a number."""
    differences = [(a - b).abs().max().item() for a, b in zip(first, second, strict=True)]
    return max((d if d == d else float("inf") for d in differences), default=0.0)


def prove(trained: Sequence[Tensor], loaded: Sequence[Tensor], what: str) -> float:
    """The largest difference between two models' outputs; more than 1e-5 of their size raises ArtifactError."""
    difference = largest_difference(trained, loaded)
    size = max([1.0, *(output.abs().max().item() for output in trained)])
    if difference > TOLERANCE * size:
        raise ArtifactError(
            f"{what} gives other outputs than the model that was trained: they differ by up to {difference:.3g} "
            f"(allowed: {TOLERANCE * size:.3g}).",
            hint="This is a defect of tunesmith or of a library; the trained weights are still in checkpoints/.",
        )
    return difference
