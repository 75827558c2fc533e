"""Runs on one backbone in memory: each a structure of its own over the shared weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from tunesmith.core import anatomy, delta, difference, sharing
from tunesmith.core.seeding import generator
from tunesmith.evaluate import temperature
from tunesmith.models import artifact, identity, refuse, stack
from tunesmith.models import load as loading
from tunesmith.models.identity import Identity
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.serve import folder as folders
from tunesmith.serve.folder import MODEL


@dataclass(frozen=True)
class Attached:
    """A finished run with its model in memory."""

    folder: Path
    recipe: Recipe
    backbone: Backbone

    @cached_property
    def temperature(self) -> float:
        """What its scores of classes are divided by, so that its confidences are right; 1 where none is kept."""
        return temperature.read(self.folder)

    def probe(self) -> list[Any]:
        """The batches with which models are compared."""
        return folders.probe(self.folder, self.recipe, self.backbone)


def first(folder: Path, device: str) -> tuple[Attached, Backbone | None]:
    """Load a run, and the backbone as it is without it; None where the run holds its whole model (`backbone_of`)."""
    recipe = folders.read_finished(folder)
    if _is_whole(folder, recipe):
        backbone = artifact.load(folder / MODEL, recipe.model, recipe.task, recipe.method, recipe.train.seed)
        return Attached(folder, recipe, _placed(backbone, device)), None
    tokenizer = loading.load_reader(str(folder / MODEL), recipe.task.reads)
    plain = _placed(_load(recipe), device)
    base = replace(plain, model=sharing.skeleton(plain.model))
    found = stack.attach(plain, recipe.model.deltas)
    identity.check(identity.read(folder / MODEL), found.identity, folder / MODEL)
    return _read(replace(found, tokenizer=tokenizer), folder, recipe, base), base


def backbone_of(run: Attached) -> Backbone:
    """The backbone that a whole model was trained from, loaded; what the model left as it was is kept once."""
    base = _placed(_load(run.recipe), str(run.backbone.model.device))
    identity.check(run.backbone.identity, base.identity, run.folder / MODEL)
    sharing.join(run.backbone.model, base.model)
    return base


def beside(folder: Path, base: Backbone) -> Attached:
    """Load a run on a backbone that is in memory. One of another backbone raises ModelError with both named.

    Of a run that holds its whole model, the tensors that it changed are kept beside the backbone's.
    """
    recipe, device = folders.read_finished(folder), str(base.model.device)
    tokenizer = loading.load_reader(str(folder / MODEL), recipe.task.reads)
    known = identity.read(folder / MODEL)
    bare = _bare(folder, recipe, replace(known, earlier=()), base)
    if _is_whole(folder, recipe):
        whole = artifact.load(folder / MODEL, recipe.model, recipe.task, recipe.method, recipe.train.seed)
        whole = _placed(whole, device)
        sharing.join(whole.model, base.model)
        return Attached(folder, recipe, whole)
    own = replace(base, model=bare, tokenizer=tokenizer, identity=replace(known, earlier=()))
    found = stack.attach(own, recipe.model.deltas)
    identity.check(known, found.identity, folder / MODEL)
    return _read(found, folder, recipe, base)


def _is_whole(folder: Path, recipe: Recipe) -> bool:
    return not recipe.method.delta and not difference.there(folder / MODEL)


def _load(recipe: Recipe) -> Backbone:
    task = recipe.task
    # Without the deltas that stay below: the backbone serves others too.
    return loading.load(recipe.model, task.auto_classes, task.head(), recipe.train.seed, task.reads)


def _placed(backbone: Backbone, device: str) -> Backbone:
    backbone.model.to(device)  # type: ignore[arg-type]
    backbone.model.eval()
    return backbone


def _read(found: Backbone, folder: Path, recipe: Recipe, base: Backbone) -> Attached:
    """The run with its delta read into a model that shares the backbone's memory, which stays as it is."""
    model, kept, shared = found.model, folder / MODEL, sharing.pointers(base.model)
    heads = [tensor for head in anatomy.head(model).values() for tensor in head.state_dict(keep_vars=True).values()]
    if difference.there(kept):
        sharing.own(model, [*difference.places(model, kept).values(), *heads], shared)
        difference.read(model, kept)
    else:
        shipped = recipe.method.shipped()
        shipped.modify(model, generator(recipe.train.seed, recipe.method.word()))
        sharing.own(model, [*shipped.tensors(model).values(), *heads], shared)
        delta.read(model, shipped, kept)
    placed = _placed(found, str(base.model.device))
    return Attached(folder, recipe, replace(placed, limit=found.limit - recipe.method.positions()))


def _bare(folder: Path, recipe: Recipe, known: Identity, base: Backbone) -> PreTrainedModel:
    """The backbone under the head of the run's task, in the memory that it has already.

    Where a task wants the backbone with other modules (without the pooler), it is loaded from its file once more and
    then joined, if it is the same otherwise.
    """
    if known.weights == base.identity.weights:
        shell = _shell(folder, recipe, base)
        if shell is not None and known.tokenizer == base.identity.tokenizer:
            return shell
    elif (known.name, known.tokenizer) != (base.identity.name, base.identity.tokenizer):
        identity.check(known, base.identity, folder / MODEL)
    loaded = _placed(_load(recipe), str(base.model.device))
    identity.check(known, loaded.identity, folder / MODEL)
    same, other = sharing.join(loaded.model, base.model)
    if not same or set(other) - sharing.in_head(loaded.model):
        identity.check(known, base.identity, folder / MODEL)
    return loaded.model


def _shell(folder: Path, recipe: Recipe, base: Backbone) -> PreTrainedModel | None:
    """A model of the run's class whose body is a copy of the backbone's structure, and whose head waits to be read;
    None where the two don't fit.
    """
    body = anatomy.backbone(base.model)
    shell = _empty(folder / MODEL, recipe.task.auto_classes, base.model)
    inner = anatomy.backbone(shell)
    if type(inner) is not type(body) or _paths(inner) != _paths(body):
        return None
    if inner is shell:
        return sharing.skeleton(base.model)
    setattr(shell, shell.base_model_prefix, sharing.skeleton(body))
    for head in anatomy.head(shell).values():
        head.to_empty(device=base.model.device)
    shell.tie_weights()
    # What stands beside the body and is no head is pre-trained too: a language model's output layer.
    there = sharing.named(sharing.skeleton(base.model))
    wanted = sharing.named(shell)
    sharing.substitute(shell, {id(t): there[name] for name, t in wanted.items() if t.is_meta and name in there})
    return None if _has_holes(shell) else shell


def _empty(folder: Path, auto_classes: tuple[str, ...], like: PreTrainedModel) -> PreTrainedModel:
    """A model without memory, from the configuration that was saved beside the delta."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            shell = loading.class_for(config, auto_classes, str(folder)).from_config(
                config, dtype=like.dtype, attn_implementation=like.config._attn_implementation
            )
    except Exception as error:
        raise refuse.model_error(str(folder), error) from error
    assert isinstance(shell, PreTrainedModel)
    shell.eval()
    return shell


def _has_holes(shell: nn.Module) -> bool:
    """Whether something is left that no file fills."""
    tensors: list[Tensor] = [*shell.parameters(), *shell.buffers()]
    heads = anatomy.head(shell).values()
    unsaved = [head for head in heads if len(head.state_dict()) < len([*head.parameters(), *head.buffers()])]
    return bool(unsaved) or any(tensor.is_meta for tensor in tensors)


def _paths(module: nn.Module) -> list[tuple[str, type[nn.Module]]]:
    return [(path, type(inner)) for path, inner in module.named_modules()]
