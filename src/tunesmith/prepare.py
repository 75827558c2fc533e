"""From a recipe to everything that a training needs: rows, model, parts, batches, optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

import torch
from accelerate import Accelerator

from tunesmith import earlier, fit, own_tokenizer
from tunesmith.arranged import arrange
from tunesmith.core import surgery
from tunesmith.core.errors import DataError, RecipeError, raise_faults
from tunesmith.core.notes import note, warn
from tunesmith.core.part import Part, Task
from tunesmith.core.rows import Rows, each
from tunesmith.core.seeding import generator, seed_everything
from tunesmith.core.step import Training
from tunesmith.core.world import Old, World
from tunesmith.data.load import Splits
from tunesmith.data.settings import DataSettings
from tunesmith.data.sizes import sizes
from tunesmith.models import load as models
from tunesmith.models import quantise, scratch, stack, vocabulary
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.train import faster, loop, optimizer, precision
from tunesmith.train.batches import Batches
from tunesmith.train.compiled import Compiled
from tunesmith.train.frozen import Report
from tunesmith.train.several import SeveralBatches

SHORTEST = 8
"""Fewest tokens that a method must leave for a text."""
FROM_NOTHING = 5e-4
"""The peak rate for random weights where the recipe names none: the methods' rates are for trained ones."""


@dataclass(frozen=True)
class Prepared:
    """All that `train.loop.train` takes, and the backbone it belongs to. several: the batches of all tasks, where there
    are others beside the recipe's.
    """

    recipe: Recipe
    backbone: Backbone
    training: Training
    batches: Batches
    accelerator: Accelerator
    several: SeveralBatches | None = None

    def train(self, outside: loop.Outside) -> bool:
        """Run the loop with the recipe's shortcuts; False when the user interrupted it."""
        recipe, compiled = self.recipe, self.recipe.speed.compile
        # What it would join is joined already where blocks run on one row.
        tried = compiled is True or (compiled == "auto" and not recipe.speed.unpadded)
        parts = [*recipe.parts, *([Compiled(setting=compiled)] if tried else [])]
        reports: list[Report] = []
        with ExitStack() as stack:

            def ready() -> None:
                reports.append(stack.enter_context(faster.training(self.training, parts, recipe.speed, recipe.train)))

            outside = replace(outside, ready=ready, unread=recipe.speed.unread)
            batches = self.several or self.batches
            ended = loop.train(self.training, parts, batches, recipe.train, self.accelerator, outside)
        for report in reports:
            if report.kept:
                outside.log.write("frozen", step=self.training.step, **asdict(report))
        if ended and self.several is None and self.batches.mix is not None:
            outside.log.write("files", step=self.training.step, seen=list(self.batches.seen))
        return ended


def settle(recipe: Recipe) -> Recipe:
    """The recipe with every `auto` and every default that depends on the method or the machine filled in, and said."""
    device = precision.choose_device(recipe.train.device)
    kind = precision.choose_precision(recipe.train.precision, device)
    rate = recipe.train.learning_rate or usual_rate(recipe)
    note(f"Device {device}, precision {kind}, learning rate {rate:g}.")
    chosen = {"device": device, "precision": kind, "learning_rate": rate}
    model = models.with_words(recipe.model, recipe.task.reads)
    if model.family is not None and model.vocabulary is None and recipe.task.reads == "text":
        model = model.model_copy(update={"vocabulary": scratch.VOCABULARY})
    return replace(recipe, model=model, train=recipe.train.model_copy(update=chosen))


def usual_rate(recipe: Recipe) -> float:
    """The peak rate where the recipe names none."""
    return FROM_NOTHING if recipe.model.scratch else recipe.method.learning_rate


def check_fit(recipe: Recipe, splits: Splits | DataSettings) -> None:
    """Refuse what can be seen before training: a tracker whose library is not there, a part that waits for evaluations
    that never come.
    """
    for tracker in recipe.trackers:
        tracker.check()
    if splits.validation is not None:
        return
    waiting = [part.word() for part in recipe.parts if type(part).after_eval is not Part.after_eval]
    if waiting:
        raise RecipeError(
            f"{', '.join(waiting)} acts on evaluations, but the recipe has no validation split.",
            hint="Give one: data.validation=0.1 splits it off the training file.",
        )


def prepare(recipe: Recipe, splits: Splits, before: Sequence[Old] = (), folder: Path | None = None) -> Prepared:
    """Load and modify the model and build what trains it. The task must have learned, or taken back, its classes.
    before: the stages before this one. folder: the run's.
    """
    check_random(recipe)
    recipe = own_tokenizer.of(recipe, splits.train)
    backbone = load_backbone(recipe)
    accelerator, world = modified(recipe, backbone, before, folder, splits.judged)
    recipe, batches = fed(recipe, splits, backbone)
    training = built(recipe, backbone, batches, world)
    seed_everything(recipe.train.seed)
    return Prepared(recipe, backbone, training, batches, accelerator)


def modified(
    recipe: Recipe, backbone: Backbone, before: Sequence[Old], folder: Path | None, judged: Path | None
) -> tuple[Accelerator, World]:
    """Let every part change the model and look at the world, and put the model on its device. judged: the file of the
    rows that judge.
    """
    for part in recipe.parts:
        part.modify(backbone.model, generator(recipe.train.seed, part.word()))
    vocabulary.warn_where_it_stays(backbone.model, recipe.model, recipe.method.word())
    if recipe.train.activation_checkpointing:
        _checkpoint_activations(backbone, recipe)
    accelerator = precision.accelerator(recipe.train)
    cast = partial(accelerator.prepare_model, evaluation_mode=True)
    read = partial(earlier.of_file, recipe, backbone)
    world = World(before, backbone.limit, read, cast, partial(faster.beside, recipe.speed), folder, judged)
    for part in (*recipe.parts, *recipe.suites, *recipe.trackers):
        part.check(backbone.model, world)
    backbone.model.to(accelerator.device)
    return accelerator, world


def fed(recipe: Recipe, splits: Splits, backbone: Backbone) -> tuple[Recipe, Batches]:
    """The batches of the training split, and the recipe with their size, where that was to be found."""
    settings = recipe.train
    arranged = arrange(recipe, splits, backbone)
    lengths = sizes(arranged.rows, recipe.task)
    if settings.batch_size == "auto":
        found = fit.batch_size(backbone, recipe.task, arranged.rows, lengths, getattr(torch, settings.precision))
        settings = settings.model_copy(update={"batch_size": found})
        recipe = replace(recipe, train=settings)
    _check_couples(backbone, recipe)
    batches = Batches(
        arranged.rows, lengths, recipe.task, backbone.tokenizer, backbone.limit,
        settings.size, settings.micro_batch_size or settings.size, recipe.data.ordered_by(settings.seed),
        ahead=recipe.speed.ahead, kept=arranged.kept, mix=arranged.mix,
    )  # fmt: skip
    return recipe, batches


def built(recipe: Recipe, backbone: Backbone, batches: Batches | SeveralBatches, world: World) -> Training:
    """The optimizer over what trains, and the state of the training at step 0."""
    settings, model = recipe.train, backbone.model
    rate = settings.learning_rate or recipe.method.learning_rate
    total = settings.steps or max(1, ceil(settings.epochs * batches.updates_an_epoch - 1e-9))
    training = Training(
        model, recipe.task, optimizer.build(model, recipe.parts, settings, rate), total, settings.seed,
        trained=frozenset(surgery.trained(model)), tokenizer=backbone.tokenizer,
        updates_an_epoch=batches.updates_an_epoch, start_kept=recipe.model.start, world=world,
    )  # fmt: skip
    trains, every = surgery.count(model)
    note(f"{trains:,} of {every:,} parameters train ({100 * trains / every:.2f} %), in {total:,} updates.")
    return training


def _check_couples(backbone: Backbone, recipe: Recipe) -> None:
    settings = recipe.train
    couples = recipe.task.couples or surgery.moves_statistics(backbone.model, surgery.trained(backbone.model))
    if recipe.task.couples and (settings.micro_batch_size or settings.size) == 1:
        raise RecipeError(
            "An example's loss depends on the others beside it, and with one row at a time there are none.",
            hint="Raise train.batch_size (and train.micro_batch_size, where it is set).",
        )
    if couples and settings.micro_batch_size not in (None, settings.size):
        warn(
            f"An example's loss depends on the others beside it: with train.micro_batch_size these are "
            f"{settings.micro_batch_size}, not {settings.size}."
        )


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
    """The recipe's backbone with the task's head, and the deltas that stay below, before any part touches it; its limit
    is what the methods leave for a text. A text limit it can't hold, a method that leaves nothing, and one that would
    train weights that are quantised, or can't stand on those deltas, raise RecipeError.
    """
    check_quantised(recipe)
    task = recipe.task
    backbone = stack.start(recipe.model, task, recipe.method, recipe.train.seed)
    task.meet(backbone.model)
    taken = recipe.method.positions()
    if backbone.limit - taken < SHORTEST:
        raise RecipeError(
            f"The method '{recipe.method.word()}' takes {taken} of the {backbone.limit} tokens that "
            f"{recipe.model.called} can read, and leaves fewer than {SHORTEST} for a text.",
            hint=f"Set method.length to at most {backbone.limit - SHORTEST}.",
        )
    backbone = replace(backbone, limit=backbone.limit - taken)
    longest = getattr(recipe.task, "max_length", None)
    if longest is not None and longest > backbone.limit:
        raise RecipeError(
            f"task.max_length: {longest} is more than {recipe.model.called} can read: {backbone.limit} tokens.",
            hint=f"Set it to at most {backbone.limit}.",
        )
    return backbone


def check_quantised(recipe: Recipe) -> None:
    """Refuse quantised weights under a method that trains them: RecipeError."""
    kind = recipe.model.quantize
    if kind is None or recipe.method.keeps_backbone:
        return
    raise RecipeError(
        f"model.quantize: method '{recipe.method.word()}' trains the backbone's own weights, which {kind} stores in "
        f"{quantise.BITS[kind]} bits: no gradient can move them.",
        hint="Use a method that leaves the backbone as it is, such as lora, or leave model.quantize out.",
    )


def check_random(recipe: Recipe) -> None:
    """Refuse random weights under a method that ships only what it adds: RecipeError."""
    if recipe.model.scratch and recipe.method.delta:
        raise RecipeError(
            f"model: method '{recipe.method.word()}' ships only what it adds to its backbone, and that of "
            f"{recipe.model.called} has random weights, which nobody else has.",
            hint="Use a method that ships the whole model: full.",
        )


def learn(recipe: Recipe, splits: Splits) -> None:
    """Let the task learn its classes or scale from the training split; held-out answers that don't fit raise
    DataError.
    """
    recipe.task.learn(each(splits.train))
    for name, rows in (("validation", splits.validation), ("test", splits.test)):
        if rows is not None:
            check_truths(recipe.task, rows, str(splits.sources[name]["path"]))


def check_truths(task: Task, rows: Rows, path: str) -> None:
    """Refuse answers that don't fit the task (a class that it never saw), all of them with their lines."""
    try:
        task.truths(each(rows))
    except DataError:
        faults = []
        for row in each(rows):
            try:
                task.truths([row])
            except DataError as error:
                faults.append(f"line {row['line']}: {error.message}")
        raise_faults(DataError, f"The answers in {path} don't fit the model:", faults, hint="Mend these rows.")
        raise
