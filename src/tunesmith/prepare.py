"""From a recipe to everything that a training needs: rows, model, parts, batches, optimizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from accelerate import Accelerator
from datasets import Dataset

from tunesmith.core import surgery
from tunesmith.core.errors import RecipeError
from tunesmith.core.notes import note, warn
from tunesmith.core.part import Part, Task
from tunesmith.core.rows import BLOCK, Bins, Rows, each
from tunesmith.core.seeding import generator, seed_everything
from tunesmith.core.step import Training
from tunesmith.data.load import Splits
from tunesmith.models import load as models
from tunesmith.models import quantise
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.train import optimizer, precision
from tunesmith.train.batches import Batches

SHORTEST = 8
"""Fewest tokens that a method must leave for a text."""


@dataclass(frozen=True)
class Prepared:
    """All that `train.loop.train` takes, and the backbone it belongs to."""

    recipe: Recipe
    backbone: Backbone
    training: Training
    batches: Batches
    accelerator: Accelerator


def settle(recipe: Recipe) -> Recipe:
    """The recipe with every `auto` and every default that depends on the method or the machine filled in, and said."""
    device = precision.choose_device(recipe.train.device)
    kind = precision.choose_precision(recipe.train.precision, device)
    rate = recipe.train.learning_rate or recipe.method.learning_rate
    note(f"Device {device}, precision {kind}, learning rate {rate:g}.")
    chosen = {"device": device, "precision": kind, "learning_rate": rate}
    return replace(recipe, train=recipe.train.model_copy(update=chosen))


def check_fit(recipe: Recipe, splits: Splits) -> None:
    """Refuse what can be seen before training: a part that waits for evaluations that never come."""
    if splits.validation is not None:
        return
    waiting = [part.word() for part in recipe.parts if type(part).after_eval is not Part.after_eval]
    if waiting:
        raise RecipeError(
            f"{', '.join(waiting)} acts on evaluations, but the recipe has no validation split.",
            hint="Give one: data.validation=0.1 splits it off the training file.",
        )


def prepare(recipe: Recipe, splits: Splits) -> Prepared:
    """Load and modify the model and build what trains it. The task must have learned, or taken back, its classes."""
    settings = recipe.train
    backbone = load_backbone(recipe)
    for part in recipe.parts:
        part.modify(backbone.model, generator(settings.seed, part.word()))
    if recipe.task.couples and settings.micro_batch_size not in (None, settings.batch_size):
        warn(
            f"An example's loss depends on the others beside it: with train.micro_batch_size these are "
            f"{settings.micro_batch_size}, not {settings.batch_size}."
        )
    if settings.activation_checkpointing:
        _checkpoint_activations(backbone, recipe)
    accelerator = precision.accelerator(settings)
    backbone.model.to(accelerator.device)
    rows = recipe.task.arrange(splits.train, backbone.tokenizer, backbone.limit)
    batches = Batches(
        rows, sizes(rows, recipe.task), recipe.task, backbone.tokenizer, backbone.limit,
        settings.batch_size, settings.micro_batch_size or settings.batch_size, settings.seed,
    )  # fmt: skip
    rate = settings.learning_rate or recipe.method.learning_rate
    total = settings.steps or max(1, ceil(settings.epochs * batches.updates_an_epoch - 1e-9))
    built = optimizer.build(backbone.model, recipe.parts, settings, rate)
    trained = frozenset(surgery.trained(backbone.model))
    training = Training(
        backbone.model, recipe.task, built, total, settings.seed, trained=trained, tokenizer=backbone.tokenizer
    )
    trains, every = surgery.count(backbone.model)
    note(f"{trains:,} of {every:,} parameters train ({100 * trains / every:.2f} %), in {total:,} updates.")
    seed_everything(settings.seed)
    return Prepared(recipe, backbone, training, batches, accelerator)


def _checkpoint_activations(backbone: Backbone, recipe: Recipe) -> None:
    if not backbone.model.supports_gradient_checkpointing:
        raise RecipeError(
            f"train.activation_checkpointing: {type(backbone.model).__name__} has no such thing.",
            hint="Leave it out; train.micro_batch_size saves memory too.",
        )
    if recipe.method.needs_cache:
        raise RecipeError(
            f"train.activation_checkpointing does not go with method '{recipe.method.word()}': the keys and values "
            "that it adds travel in a cache, which a block that is computed again does not get.",
            hint="Leave one of the two out.",
        )
    # The kind that works where no gradient enters from below, as under a frozen backbone.
    # Later versions of transformers call it by another name.
    model = backbone.model
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def load_backbone(recipe: Recipe) -> Backbone:
    """The recipe's backbone with the task's head, before any part touches it; its limit is what the method leaves for
    a text. A text limit it can't hold, a method that leaves nothing, and one that would train weights that are
    quantised, raise RecipeError.
    """
    _check_quantised(recipe)
    task = recipe.task
    backbone = models.load(recipe.model, task.auto_classes, task.head(), recipe.train.seed, task.reads)
    taken = recipe.method.positions()
    if backbone.limit - taken < SHORTEST:
        raise RecipeError(
            f"The method '{recipe.method.word()}' takes {taken} of the {backbone.limit} tokens that "
            f"{recipe.model.name} can read, and leaves fewer than {SHORTEST} for a text.",
            hint=f"Set method.length to at most {backbone.limit - SHORTEST}.",
        )
    backbone = replace(backbone, limit=backbone.limit - taken)
    longest = getattr(recipe.task, "max_length", None)
    if longest is not None and longest > backbone.limit:
        raise RecipeError(
            f"task.max_length: {longest} is more than {recipe.model.name} can read: {backbone.limit} tokens.",
            hint=f"Set it to at most {backbone.limit}.",
        )
    return backbone


def _check_quantised(recipe: Recipe) -> None:
    kind = recipe.model.quantize
    if kind is None or recipe.method.keeps_backbone:
        return
    raise RecipeError(
        f"model.quantize: method '{recipe.method.word()}' trains the backbone's own weights, which {kind} stores in "
        f"{quantise.BITS[kind]} bits: no gradient can move them.",
        hint="Use a method that leaves the backbone as it is, such as lora, or leave model.quantize out.",
    )


def learn(recipe: Recipe, splits: Splits) -> None:
    """Let the task learn its classes or scale from the training split."""
    recipe.task.learn(each(splits.train))


def sizes(rows: Rows, task: Task) -> np.ndarray:
    """The size of each row, over the columns that are read: characters of texts, items of lists, tokens where the task
    arranged them: [rows]. Images are all alike.
    """
    if isinstance(rows, Bins):
        members = sizes(rows.rows, task)
        return np.array([members[list(one)].sum() for one in rows.bins])
    if task.reads == "images":
        return np.ones(len(rows), dtype=np.int64)
    table = cast(Dataset, rows).with_format("arrow")
    arranged = ["input_ids"] if "input_ids" in table.column_names else []
    inputs = arranged or [column.role for column in task.columns() if not column.target]
    inputs = [name for name in inputs if name in table.column_names]
    blocks = [_sizes(table[start : start + BLOCK], inputs) for start in range(0, len(rows), BLOCK)]
    return np.concatenate(blocks)


def _sizes(block: pa.Table, inputs: list[str]) -> np.ndarray:
    total = np.zeros(block.num_rows, dtype=np.int64)
    for name in inputs:
        column = block.column(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            total += pc.utf8_length(column).to_numpy()
        elif pa.types.is_list(column.type):
            total += pc.list_value_length(column).to_numpy()
    return total
