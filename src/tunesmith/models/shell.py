"""A finished stage's class and head over another body: how a later stage asks what the earlier task would say."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.part import Method, Task
from tunesmith.models import artifact
from tunesmith.models.settings import ModelSettings


def load(folder: Path, settings: ModelSettings, task: Task, method: Method, seed: int) -> nn.Module:
    """The model that a stage saved in `folder`, frozen, whose body another one's may stand in for (`over`).

    Raises ModelError for a class that keeps its body's modules among its own.
    """
    model = artifact.load(folder, settings, task, method, seed).model
    if anatomy.backbone(model) is model:
        raise ModelError(
            f"The head of {type(model).__name__} can't be asked over another body: the class keeps both in one.",
            hint="Leave out what looks back at that stage.",
        )
    surgery.freeze(model.eval())
    return model


def over(made: nn.Module, body: nn.Module) -> nn.Module:
    """Let `made` run over `body` from now on; its own is let go. Returns it.

    Where its own body has a module that the other lacks (BERT's pooler, which a model that fills masks does without),
    that one stays, and all others are taken.
    """
    own = anatomy.backbone(made)
    if {name for name, _ in own.named_children()} <= {name for name, _ in body.named_children()}:
        setattr(made, made.base_model_prefix, body)  # type: ignore[arg-type]
        return made
    for name, child in body.named_children():
        if name in own._modules:
            setattr(own, name, child)
    return made
