"""What parts may look at besides the model that trains: what was trained before, files, the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from tunesmith.core.rows import Rows, take
from tunesmith.core.step import Batch

if TYPE_CHECKING:
    from tunesmith.core.part import Reader, Task


@dataclass(frozen=True)
class Old:
    """What the model could do before and is not to lose: examples of a task, and the model that answers them.

    name: of the stage or file that they come from. find: its training rows, read when they are first asked for. shell:
    from a body, the model of the class and with the head that this task was trained with, over that body; None where
    the task is the one that trains, and so the model.
    """

    name: str
    task: Task
    tokenizer: Reader
    find: Callable[[], Rows]
    shell: Callable[[nn.Module], nn.Module] | None = None

    @cached_property
    def rows(self) -> Rows:
        """The training rows."""
        return self.find()

    def encode(self, numbers: Sequence[int], limit: int) -> list[dict[str, Any]]:
        """Examples of the rows with these numbers, of at most `limit` tokens."""
        return self.task.encode(take(self.rows, list(numbers)), self.tokenizer, limit)

    def collate(self, examples: Sequence[dict[str, Any]], seeds: Sequence[int]) -> Batch:
        """One batch of examples, each with the seed of what is drawn anew."""
        seeded = [
            {**one, "row": place, "seed": seed} for place, (one, seed) in enumerate(zip(examples, seeds, strict=True))
        ]
        return self.task.collate(seeded, self.tokenizer)


@dataclass(frozen=True)
class World:
    """earlier: the stages before this one, the first of them first. limit: the most tokens that the model reads. read:
    from the path of a file, its rows as examples of the task that trains. cast: a model made to run in the precision of
    the training. answering: inside its block a model beside the one that trains answers as fast as the recipe allows;
    its second argument says whether what nothing reads may be left out. folder: the run's, where a part may leave a
    file. judged: the file of the held-out rows that judge the model, if there are some.
    """

    earlier: Sequence[Old]
    limit: int
    read: Callable[[str], Old]
    cast: Callable[[nn.Module], nn.Module] = lambda model: model
    answering: Callable[[nn.Module, bool], AbstractContextManager[None]] = lambda model, unread: nullcontext()
    folder: Path | None = None
    judged: Path | None = None

    def old(self, data: str | None) -> list[Old]:
        """The examples of a file, or where none is named, those of every earlier stage."""
        return list(self.earlier) if data is None else [self.read(data)]
