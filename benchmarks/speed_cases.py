"""What `benchmarks/speed.py` compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairs import models
from pairs.case import Case
from pairs.data import Source

OURS, PLAIN, BEST, DEFAULT = "ours", "plain", "Trainer", "Trainer, defaults"
BATCH = 32
METHODS = {"full": "full", "lora": "LoRA"}
"""The methods of which the quality is compared, and how they are told."""


@dataclass(frozen=True)
class Comparison:
    """One of ours against one or more of theirs.

    goals: of each of theirs, the ratio that is to be reached. memory: the part of their peak that is to be kept to.
    """

    part: str
    name: str
    case: Case
    goals: dict[str, float]
    memory: float | None = None
    ours: str = OURS

    @property
    def sides(self) -> list[str]:
        """Names of all sides, ours first."""
        return [self.ours, *self.goals]

    def of(self, turn: int) -> Case:
        """The case of a turn: each has another seed."""
        return replace(self.case, seed=turn)


@dataclass(frozen=True)
class Sizes:
    """Rows of training in loops and whole commands, and rows of the test."""

    rows: int
    whole_rows: int
    test_rows: int


class Cases:
    """Makes the comparisons of a part, with their files, in a folder of this program's own."""

    def __init__(self, source: Source, model: str, sizes: Sizes) -> None:
        self.source, self.sizes = source, sizes
        self.tiny = "tiny" in model
        self.folder, self.name = models.builtin(model, source.folder / "backbone")
        self.parts: dict[str, Callable[[], Iterable[Comparison]]] = {
            "full": self.full, "shapes": self.shapes, "lora": self.lora, "fill": self.fill, "instruct": self.instruct,
            "frozen": self.frozen, "quality": self.quality, "shortcuts": self.shortcuts,
        }  # fmt: skip

    def _sst2(self, count: int, **more: Any) -> Case:
        given = {"model": self.folder, "ours": self.name, **more}
        return Case("classify", train=self.source.file("classify", count, BATCH), batch=BATCH, **given)

    def full(self) -> list[Comparison]:
        """Full training."""
        case = self._sst2(self.sizes.rows)
        return [Comparison("full", "SST-2, full", case, {BEST: 1.5, DEFAULT: 4.0})]

    def shapes(self) -> list[Comparison]:
        """Backbones for which there is no fused block."""
        found = []
        for name in ("distilbert", "gpt2"):
            folder, called = models.random(name, self._new(name), models.reader(self.folder), self.tiny)
            case = self._sst2(self.sizes.rows, model=folder, ours=called)
            found.append(Comparison("shapes", f"SST-2, full, {name} shape, random weights", case, {BEST: 1.15}))
        return found

    def lora(self) -> list[Comparison]:
        """Low-rank training."""
        named = {"lora": "queries and values", "lora_all": "every linear"}
        return [
            Comparison(
                "lora", f"SST-2, LoRA, {told}", self._sst2(self.sizes.rows, method=method), {BEST: 1.8}, memory=0.8
            )
            for method, told in named.items()
        ]

    def fill(self) -> list[Comparison]:
        """Masked words, in blocks of 128 tokens."""
        length = 32 if self.tiny else 128
        words = self.sizes.rows // 4 * length * 4 // 5  # blocks are longer than sentences: a fourth of the rows
        case = Case("fill", self.folder, self.name, self.source.text(words), length=length, batch=BATCH)
        return [Comparison("fill", f"WikiText-2, masked words, blocks of {length}", case, {BEST: 2.0})]

    def instruct(self) -> list[Comparison]:
        """Answers to instructions, the loss on the answers alone, with a vocabulary of 32,000 words."""
        rows = self.source.rows("instruct", 10**6) if not self.tiny else self.source.rows("instruct", 64)
        lines = self.source.rows("words", 2000)
        texts = (text for row in [*rows, *lines] for text in row.values())
        words = models.trained_reader(texts, 400 if self.tiny else models.VOCABULARY)
        folder, called = models.random("llama", self._new("llama"), words, self.tiny)
        file = self.source.file("instruct", self.sizes.rows // 2, 16)
        case = Case("instruct", folder, called, file, length=64 if self.tiny else 256, batch=16)
        return [Comparison("instruct", "Alpaca, answers alone, small Llama, 32,000 words", case, {BEST: 1.3}, 0.5)]

    def frozen(self) -> list[Comparison]:
        """Methods under which the lower blocks stay as they are: the whole command, with the test rows answered."""
        goals = [("head", "head only", 3, 3.5), ("head", "head only", 10, 9.0), ("top", "top two blocks", 3, 2.0)]
        test = self.source.file("test", self.sizes.test_rows)
        return [
            Comparison(
                "frozen",
                f"SST-2, {told}, {epochs} epochs",
                self._sst2(self.sizes.whole_rows, method=method, epochs=epochs, test=test),
                {BEST: goal},
                ours="command",
            )
            for method, told, epochs, goal in goals
        ]

    def quality(self) -> list[Comparison]:
        """The other side's accuracy: no goal of speed."""
        return [self._answers("quality", f"SST-2, {told}", BEST, method=name) for name, told in METHODS.items()]

    def shortcuts(self) -> Iterator[Comparison]:
        """The accuracy without any shortcut, as models drop out by themselves, and without dropout, which either draws
        by itself.
        """
        folder, called = models.without_dropout(self.folder, self.source.folder / "no dropout")
        for name, told in METHODS.items():
            title = f"SST-2, {told}"
            yield self._answers("shortcuts", f"{title}, no dropout", PLAIN, method=name, model=folder, ours=called)
            yield self._answers("shortcuts", title, PLAIN, method=name)

    def _answers(self, part: str, name: str, other: str, **more: Any) -> Comparison:
        test = self.source.file("test", self.sizes.test_rows)
        return Comparison(part, name, self._sst2(self.sizes.whole_rows, epochs=2, test=test, **more), {other: 0.0})

    def _new(self, name: str) -> Path:
        folder = self.source.folder / name
        folder.mkdir()
        return folder
