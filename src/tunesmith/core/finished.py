"""A finished model as suites see it, and what a model answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.core.column import Row
from tunesmith.core.errors import UserError
from tunesmith.core.rows import Rows, judging

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from tunesmith.core.part import Reader, Task


class NoBefore(UserError):
    """What the model was before its training is not known, and is asked for."""


@dataclass(frozen=True)
class Predictions:
    """What a model answered: `answers` [rows, …], `confidences` [rows], `loss` a target (NaN without targets), and of
    how many rows something was `cut`.
    """

    answers: np.ndarray
    confidences: np.ndarray
    loss: float
    cut: int = 0


class Asked(Protocol):
    """A model that can be asked (`evaluate.predict.Predictor`)."""

    @property
    def model(self) -> nn.Module:
        """The model, with the task's head."""

    @property
    def tokenizer(self) -> Reader:
        """What turns its rows into numbers."""

    @property
    def task(self) -> Task:
        """The task of its head."""

    @property
    def limit(self) -> int:
        """The most tokens that it reads."""

    def predict(self, rows: Rows) -> Predictions:
        """Its answers to rows."""

    def scores(self, rows: Rows) -> np.ndarray | None:
        """Its scores of classes before any softmax, [rows, classes], float32; None where the task has none."""

    def features(self, rows: Rows, *, layers: bool = False) -> np.ndarray:
        """What its backbone makes of rows: the mean of the last states over the tokens, [rows, hidden], float32; with
        `layers` those of the embeddings and of every block, [rows, 1 + blocks, hidden].
        """


@dataclass(frozen=True)
class Further:
    """A further training of a run's recipe. now: the model that it made, None where it failed. seconds: of its updates.
    trained: how many parameters trained. failed: why there is no model; diverged: whether that is a loss that was no
    number any more.

    Whoever holds it holds its model: keep what is measured, and not this.
    """

    name: str
    now: Asked | None = None
    seconds: float = 0.0
    trained: int = 0
    failed: str = ""
    diverged: bool = False


class Again(Protocol):
    """Trains the recipe of a run once more, in the folder `also/NAME` of the run."""

    def __call__(self, name: str, changes: Mapping[str, Any], *, share: float = 1.0) -> Further:
        """The same recipe with some values changed, on the same training and validation rows.

        changes: as in a recipe, sections with what is other in them: {"train": {"seed": 3}}, {"method": "head_only"}.
        {"model": {"weights": "random"}} is the same backbone and tokenizer with random weights. share: of the training
        rows; larger shares hold the rows of smaller ones. A training that is there already with the same settings is
        not repeated.
        """


@dataclass(frozen=True)
class Finished:
    """A finished model as a suite sees it.

    splits: the held-out rows by the name of their split, each row as the task reads it. predict, untrained: answers of
    the model, and of the same model before training, on a split by its name; known or computed once. lines: lines of
    the predictions file of a split, by their places. train: the training rows, read when they are first asked for;
    None where the run's files are not at hand. now: the model. before: the model before its training, with a fresh
    head, loaded when it is first asked for. read: the rows of a labelled file, by the task's columns. folder: of the
    run; None where there is none. headed: the backbone before its training under another head, by the first of these
    transformers classes that knows it. starts: whether it is known what the model was before its training; where it is
    not, `before` and `untrained` raise NoBefore, by which a suite that can't do without is said not to be measured.
    """

    task: Task
    splits: Mapping[str, Rows]
    predict: Callable[[str], Predictions]
    untrained: Callable[[str], Predictions]
    lines: Callable[[str, Sequence[int]], list[Row]]
    seed: int
    train: Callable[[], Rows | None]
    now: Asked
    before: Callable[[], Asked]
    read: Callable[[Path], Rows]
    folder: Path | None = None
    headed: Callable[[tuple[str, ...]], nn.Module] | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    again: Again | None = None
    starts: bool = True
    files: Mapping[str, Path] = field(default_factory=dict)

    def held_out(self) -> str | None:
        """The split that judges: test, or validation where there is no test split, or None."""
        return judging(self.splits)
