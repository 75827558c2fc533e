"""Load a model that was trained elsewhere, head and all, to be measured as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from tunesmith.core import anatomy, delta, difference
from tunesmith.core.errors import ModelError, nearest, raise_faults
from tunesmith.models import identity, images, origin
from tunesmith.models import load as loading
from tunesmith.models.load import Backbone

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls the outputs of a head that nobody named."""


def load(name: str, auto_classes: tuple[str, ...], reads: str) -> Backbone:
    """The model of a folder or hub name, by the first of the transformers classes that knows it.

    Raises ModelError: what `models.load` refuses; a head that its file lacks, which would be random; a delta without
    its backbone; a tiny model that comes along, whose weights are random.
    """
    source = origin.source_of(name)
    if isinstance(source, PreTrainedConfig):
        raise ModelError(
            f"The model {name} has random weights: there is nothing to measure.",
            hint="Give a folder or hub name of a model that was trained for the task.",
        )
    _refuse_delta(Path(source))
    reader = loading.load_reader(source, reads)
    model = loading.load_whole(source, auto_classes)
    if reads == "images":
        images.check_fit(model, reader, name)
    return loading.complete(model, reader, identity.identify(model, reader, name))


def rename(config: Any, labels: Mapping[str, str]) -> None:
    """Give outputs of a head other names, in its configuration. Names that the head does not have: ModelError, all
    together.
    """
    known = [str(name) for name in config.id2label.values()]
    faults = [f"--label {old}={new}: the head has no '{old}'. {nearest(old, known)}" for old, new in labels.items()
              if old not in known]  # fmt: skip
    raise_faults(ModelError, "Outputs of the model's head can't be named like this:", faults)
    config.id2label = {number: labels.get(str(name), str(name)) for number, name in config.id2label.items()}
    config.label2id = {name: number for number, name in config.id2label.items()}


def is_unnamed(config: Any) -> bool:
    """Whether nobody gave the outputs of the head names."""
    return any(UNNAMED.fullmatch(str(name)) for name in config.id2label.values())


def check_kin(model: nn.Module, before: nn.Module, name: str, earlier: str) -> None:
    """Refuse a model before training that can't have become this one: another body, by the names and shapes of its
    weights (a vocabulary may have grown). Raises ModelError.
    """
    ours, theirs = (_shapes(anatomy.backbone(one)) for one in (model, before))
    other = sorted(key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key])
    # A pooler may come or go with the head.
    other += sorted(key for key in ours.keys() ^ theirs.keys() if not key.startswith("pooler."))
    if other:
        raise ModelError(
            f"{name} was not made from {earlier}: {other[0]} is not in both, or of another shape ({len(other)} such).",
            hint="Name the model that it was trained from with --before, or leave --before out.",
        )


def _shapes(body: nn.Module) -> dict[str, tuple[int, ...]]:
    words = {id(module.weight) for module in anatomy.word_embeddings(body).values()}
    return {
        name: tuple(parameter.shape[1:] if id(parameter) in words else parameter.shape)
        for name, parameter in body.named_parameters()
    }


def _refuse_delta(folder: Path) -> None:
    if difference.there(folder) or any((folder / name).exists() for name in (delta.CONFIG, delta.WEIGHTS, delta.OWN)):
        raise ModelError(
            f"The folder {folder} holds a delta, which is no model without its backbone.",
            hint="Give the folder of its run, or write a plain model first: tunesmith merge RUN --out FOLDER.",
        )
