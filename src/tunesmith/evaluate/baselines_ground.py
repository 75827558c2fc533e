"""What baselines are measured on: the held-out rows, training rows to learn from, features of the model before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from torch import nn

from tunesmith.core.finished import Asked, Finished
from tunesmith.core.notes import note, silent
from tunesmith.core.rows import Chosen, Rows, each
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import language

Which = Literal["train", "validation", "held out"]
Setting = TypeVar("Setting")
CHOOSING = 2000
"""Most validation rows on which the setting of a baseline is chosen."""
ROLES = ("text", "pair")


@dataclass(frozen=True)
class Told:
    """What a baseline answered. places [rows]: which of the held-out rows. answers: an array [rows, …], or several,
    over which its score is a mean. trained: parameters. used: training rows that it learned from, or saw in a prompt.
    uses: whose features it needed. seconds: of its training, where that was measured; None: what a clock says.
    """

    name: str
    places: np.ndarray
    answers: Sequence[np.ndarray]
    trained: int = 0
    used: int = 0
    remark: str = ""
    uses: tuple[Which, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Missing:
    """A baseline that can't be measured, and why."""

    name: str
    why: str


Outcome = Told | Missing


@dataclass(frozen=True)
class Ground:
    """The rows of `split`, which judges. most: training rows that a baseline learns from. spent: seconds of what
    several baselines share, by what it was.
    """

    finished: Finished
    split: str
    most: int
    spent: dict[str, float] = field(default_factory=dict)
    _kept: dict[Which, np.ndarray] = field(default_factory=dict)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by their numbers, where an answer is one class; else none."""
        task = self.finished.task
        single = any(column.target and column.classes and column.storage == "text" for column in task.columns())
        return tuple(map(str, task.head().get("id2label", {}).values())) if single else ()

    @cached_property
    def number(self) -> bool:
        """Whether an answer is one number."""
        task = self.finished.task
        target = any(column.target and column.storage == "number" for column in task.columns())
        return target and task.constant() is not None

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The roles of a row's plain texts: a text, or a text and its pair; none where a row is anything else."""
        asked = [column for column in self.finished.task.columns() if not column.target]
        plain = all(one.role in ROLES and one.storage == "text" and not one.path for one in asked)
        return tuple(one.role for one in asked) if plain and self.finished.task.reads == "text" else ()

    @cached_property
    def learned(self) -> Rows | None:
        """The training rows to learn from, drawn by the run's seed where there are more; None: not at hand."""
        rows = self.finished.train()
        if rows is None or len(rows) <= self.most:
            return rows
        note(f"Baselines learn from {self.most:,} of the {len(rows):,} training rows, drawn by the run's seed.")
        return Chosen(rows, self._drawn(len(rows), self.most).tolist())

    @cached_property
    def validation(self) -> Rows | None:
        """Rows on which a baseline's setting is chosen; None where there are none but those that judge."""
        rows = self.finished.splits.get("validation") if self.split != "validation" else None
        if rows is None or len(rows) <= CHOOSING:
            return rows
        return Chosen(rows, self._drawn(len(rows), CHOOSING).tolist())

    def rows(self, which: Which) -> Rows:
        """The rows that are learned from, chosen on, or judged by."""
        found = {"train": self.learned, "validation": self.validation, "held out": self.finished.splits[self.split]}
        rows = found[which]
        assert rows is not None
        return rows

    @property
    def every(self) -> np.ndarray:
        """The places of all held-out rows."""
        return np.arange(len(self.rows("held out")))

    def some(self, most: int) -> np.ndarray:
        """The places of at most so many held-out rows, in order: the same ones whenever it is asked."""
        count = len(self.rows("held out"))
        return self.every if count <= most else self._drawn(count, most)

    def truths(self, which: Which) -> np.ndarray:
        """The right answers [rows, …]."""
        return self.finished.task.truths(each(self.rows(which)))

    def texts(self, which: Which) -> list[str]:
        """The text of every row; of a pair both, joined."""
        return [" ".join(row[role] for role in self.roles) for row in each(self.rows(which))]

    def features(self, which: Which) -> np.ndarray:
        """What the backbone before the training makes of the rows [rows, hidden], computed once."""
        if which not in self._kept:
            asked, began = self.before, time.perf_counter()
            self._kept[which] = asked.features(self.rows(which))
            self.spent[which] = time.perf_counter() - began
        return self._kept[which]

    @cached_property
    def before(self) -> Asked:
        """The model before its training."""
        began = time.perf_counter()
        found = self.finished.before()
        self.spent["loading it"] = time.perf_counter() - began
        return found

    @cached_property
    def language(self) -> nn.Module | str:
        """The backbone before the training as the causal language model that it was pre-trained as, or why not."""
        asked, began = self.before, time.perf_counter()
        with silent():
            found = language.of(self.finished)
        made = found if isinstance(found, str) else found.over(asked)
        self.spent["loading its language model"] = time.perf_counter() - began
        return made

    @property
    def causal(self) -> bool:
        """Whether the backbone was pre-trained to go on with a text."""
        return language.kind_of(self.finished.now.model.config) == "causal"

    def lacks(self, *needs: Literal["class", "answer", "rows", "texts"]) -> str:
        """Why a baseline with these needs can't be measured; empty: it can."""
        task = f"the task '{self.finished.task.word()}', as it is set"
        if "class" in needs and not self.labels:
            return f"an answer of {task}, is no single class"
        if "answer" in needs and not (self.labels or self.number):
            return f"an answer of {task}, is neither one class nor one number"
        if "texts" in needs and not self.roles:
            return f"a row of {task}, is no text or pair of texts"
        return "the training rows are not at hand" if "rows" in needs and self.learned is None else ""

    def chosen(
        self, settings: Sequence[Setting], usual: Setting, answers: Callable[[Setting], np.ndarray]
    ) -> tuple[Setting, str]:
        """The setting whose answers to the validation rows are best, the first of equals, and how it was chosen; the
        usual one where no rows are apart from those that judge.
        """
        if self.validation is None:
            return usual, "not chosen, as there is no validation split beside the rows that judge"
        task, truths = self.finished.task, self.truths("validation")
        sign = 1 if task.higher_is_better else -1
        values = [sign * task.metrics(truths, answers(one))[task.metric] for one in settings]
        best = int(np.argmax([value if math.isfinite(value) else -math.inf for value in values]))
        told = ", ".join(f"{one:g}" if isinstance(one, int | float) else str(one) for one in settings)
        return settings[best], f"chosen on {len(truths):,} validation rows from {told}"

    def _drawn(self, count: int, most: int) -> np.ndarray:
        draw = np.random.default_rng(seed_of(self.finished.seed, "baselines"))
        return np.sort(draw.permutation(count)[:most])
