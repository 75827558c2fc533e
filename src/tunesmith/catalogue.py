"""What each method would do with one backbone: trained parameters, what stays inserted, whether it merges."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from torch import nn

from tunesmith.core import registry, surgery
from tunesmith.core.errors import UserError
from tunesmith.core.notes import LOGGER
from tunesmith.core.panel import Cell, Panel, Table
from tunesmith.core.part import Method
from tunesmith.core.seeding import generator
from tunesmith.models.load import load
from tunesmith.models.settings import ModelSettings
from tunesmith.report.wording import percent

CLASSES = 2
SEED = 0
MERGES = {True: "yes", False: "no", None: "not needed"}


@dataclass(frozen=True)
class Fitted:
    """A method on the backbone.

    trained, share: parameters that train, the head's too, and their share of all. inserted: those beside the backbone's
    own that a prediction needs while nothing is merged. merges: whether they can be folded in; None where there are
    none. cannot_merge: why they can't.
    """

    name: str
    trained: int
    share: float
    at_inference: str
    inserted: int
    merges: bool | None
    cannot_merge: str
    learning_rate: float


@dataclass(frozen=True)
class Refused:
    """A method that does not go with the backbone, or that needs settings, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Catalogue:
    """Every method on the backbone `model`, which has `parameters` parameters with a head of two classes."""

    model: str
    parameters: int
    fitted: list[Fitted]
    refused: list[Refused]

    def panels(self) -> list[Panel]:
        """Tables: the methods that fit, what they cost at inference, and those that do not fit."""
        columns = ["method", "trained", "share", "inserted", "merges", "rate"]
        rows: list[list[Cell]] = [
            [one.name, one.trained, percent(one.share), one.inserted, MERGES[one.merges], one.learning_rate]
            for one in self.fitted
        ]
        title = f"Methods on {self.model}: {self.parameters:,} parameters with a head of {CLASSES} classes"
        told = "With default settings and rates. Trained parameters, and their share of all, count the head."
        costs: list[list[Cell]] = [[one.name, _cost(one)] for one in self.fitted if one.merges is not None]
        found: list[Panel] = [
            Table(title, columns, rows, told),
            Table("What a prediction costs more than the backbone's own", ["method", "cost"], costs),
        ]
        if self.refused:
            reasons: list[list[Cell]] = [[one.name, one.why] for one in self.refused]
            found.append(Table(f"Not on {self.model} as they are", ["method", "why"], reasons))
        return found

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "classes": CLASSES}


def of_model(name: str) -> Catalogue:
    """Try every method, with its default settings, on copies of one backbone. A backbone that can't be loaded raises
    ModelError.
    """
    model = load(ModelSettings(name=name), ("AutoModelForSequenceClassification",), {"num_labels": CLASSES}, SEED).model
    with _no_notes():
        told = [_told(model, method) for method in registry.names("methods")]
    fitted = [one for one in told if isinstance(one, Fitted)]
    return Catalogue(name, surgery.count(model)[1], fitted, [one for one in told if isinstance(one, Refused)])


def _told(model: nn.Module, name: str) -> Fitted | Refused:
    try:
        method = cast(Method, registry.build("methods", name))
        changed = _modified(model, method)
        trained, every = surgery.count(changed)
        # What trains may be more than what ships, as where a network makes the vectors that are kept.
        shipped = method.shipped()
        kept = changed if shipped is method else _modified(model, shipped)
    except UserError as error:
        return Refused(name, " ".join(error.message.split()))
    inserted = surgery.count(kept)[1] - surgery.count(model)[1]
    merges = False if method.cannot_merge else True if surgery.inserted(kept) else None
    return Fitted(
        name, trained, trained / every, method.at_inference, inserted, merges, method.cannot_merge, method.learning_rate
    )


def _modified(model: nn.Module, method: Method) -> nn.Module:
    modified = copy.deepcopy(model)
    method.modify(modified, generator(SEED, method.word()))
    return modified


@contextmanager
def _no_notes() -> Iterator[None]:
    """Inside the block only warnings are said: a note of what a method chose belongs to a run of it."""
    before = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def _cost(one: Fitted) -> str:
    return f"{one.at_inference}; no merging: {one.cannot_merge}" if one.cannot_merge else one.at_inference
