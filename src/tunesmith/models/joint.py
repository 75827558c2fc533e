"""Several models over one body: a head each, and everything else once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from tunesmith.core import anatomy, surgery
from tunesmith.core.beside import Beside
from tunesmith.core.errors import ModelError
from tunesmith.models import shell

BESIDE = "beside"
"""The name of what the first model holds of the others."""


def first_of(models: Mapping[str, PreTrainedModel]) -> str:
    """The name of the model over whose body all others can run: the one whose body has every module that another's has
    (BERT's with its pooler). Bodies of several kinds raise ModelError, and so does a class without a body of its own.
    """
    bodies = {name: anatomy.backbone(model) for name, model in models.items()}
    for name, model in models.items():
        if bodies[name] is model:
            raise ModelError(
                f"The task '{name}' can't share its backbone: {type(model).__name__} keeps body and head in one.",
                hint="Train that task alone, or in a stage of its own.",
            )
    parts = {name: {child for child, _ in body.named_children()} for name, body in bodies.items()}
    first = max(models, key=lambda name: len(parts[name]))
    for name, body in bodies.items():
        if type(body) is not type(bodies[first]) or not parts[name] <= parts[first]:
            raise ModelError(
                f"The tasks '{first}' and '{name}' can't share a backbone: {type(bodies[first]).__name__} has other "
                f"modules than {type(body).__name__}.",
                hint="Train them in stages, one after the other.",
            )
    return first


def join(first: PreTrainedModel, others: Mapping[str, PreTrainedModel]) -> None:
    """Let the others run over the first one's body; theirs are let go. What they have beside it becomes part of the
    first, under BESIDE, so that one optimizer trains all.
    """
    body = anatomy.backbone(first)
    children: dict[str, dict[str, nn.Module]] = {}
    heads: dict[str, nn.Module] = {}
    for name, model in others.items():
        shell.over(model, body)
        model.tie_weights()
        children[name] = {child: module for child, module in model.named_children() if module is not body}
        heads |= {f"{name}.{path}": module for path, module in anatomy.head(model).items()}
    first.add_module(BESIDE, Beside(others, children, heads))


@contextmanager
def alone(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the model is without what belongs to others: it can be saved, or asked, by itself."""
    there = [name for name, _ in model.named_children() if name == BESIDE]
    with surgery.taken_out(model, there):
        yield
