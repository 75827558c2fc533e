"""Blocks of a known structure run as one hand-written function while they get one row of real tokens.

A family of blocks is a file of this folder that defines the class of its own name (`bert.py`: `Bert`). Each block keeps
its modules, names and weights; only its `forward` is stood in for, and steps aside for the block's own whenever it is
called with something else than a row and its layout, or holds what the family doesn't know.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol, cast

from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.layout import Layout
from tunesmith.core.notes import note
from tunesmith.train.fused import check
from tunesmith.train.fused.tape import Work, run

DEVICES = ("cpu",)
"""Where fused blocks run. A GPU has attention kernels of its own that take a row as it is."""
POSITIONS = ("position_embeddings", "position_ids")
"""What a call says about where tokens stand."""


class Family(Protocol):
    """A block of a known structure. width: the numbers of a token. turned: those of a head that are turned by position
    (Su et al. 2021), 0 where none are.
    """

    width: int
    turned: int

    @classmethod
    def of(cls, block: nn.Module) -> Family | str | None:
        """The block, if it is one of the family; None if not; a sentence if it is, but can't run as one function."""

    def work(self, x: Tensor, layout: Layout, one: bool, positions: Sequence[Tensor] = ()) -> Work | str:
        """What a call on x [1, total, hidden] needs, or a sentence that says why the block's own forward must run.

        positions: where something is turned, cosines and sines, each [1, total, turned].
        """


@dataclass(frozen=True)
class Report:
    """How many of the blocks run as one function, and why the others don't: reason -> how many."""

    fused: int
    blocks: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        others = "; ".join(f"{count} not: {reason}" for reason, count in self.reasons.items())
        return f"{self.fused} of {self.blocks} blocks run as one function{f' ({others})' if others else ''}"


class Fused:
    """What a block does instead of its own forward. It holds the block, so that a deep copy holds the copy.

    last: whether nothing but the head comes after the block, so that it may give the tokens that are read alone.
    """

    def __init__(self, block: nn.Module, family: Family, last: bool) -> None:
        self.block, self.family, self.last = block, family, last
        self.names = arguments(block)
        self.said = False

    def __call__(self, *given: Any, **named: Any) -> Any:
        call = {**dict(zip(self.names, given, strict=False)), **named}
        x, layout = call.pop(self.names[0]), call.pop("attention_mask", None)
        if not isinstance(layout, Layout) or not self._plain(x, call):
            return type(self.block).forward(self.block, *given, **named)
        positions = call.get(POSITIONS[0]) or ()
        why = "a hook inside it" if hooked(self.block) else self._work(x, layout, positions)
        if isinstance(why, str):
            self._say(why)
            return type(self.block).forward(self.block, *given, **named)
        if getattr(self.block, "gradient_checkpointing", False) and self.block.training:
            return cast(Any, self.block)._gradient_checkpointing_func(partial(run, why), x)
        return run(why, x)

    def _plain(self, x: Any, rest: dict[str, Any]) -> bool:
        """Whether the call is one on a row of tokens, with nothing else that changes what the block computes."""
        known = isinstance(x, Tensor) and x.dim() == 3 and x.shape[0] == 1 and x.device.type in DEVICES
        asked = {*self.names, "output_attentions", "output_hidden_states"}
        asked -= {*POSITIONS} if self.family.turned else set()
        return known and not any(rest.get(name) is not None and rest[name] is not False for name in asked)

    def _work(self, x: Tensor, layout: Layout, positions: Sequence[Tensor]) -> Work | str:
        return self.family.work(x, layout, self.last and layout.read is not None, positions)

    def _say(self, why: str) -> None:
        if not self.said:
            self.said = True
            note(f"A block of {type(self.block).__name__} runs as it is, not as one function: {why}.")


@contextmanager
def fused(model: nn.Module) -> Iterator[Report]:
    """Inside, the model's blocks of known families run as one function each, wherever they get a row and its layout
    (`core/unpadded.py`); yields how many do, and why others don't.

    Each kind of block is compared with its own forward once, on random numbers. At exit everything is as before.
    """
    found: list[Fused] = []
    reasons: Counter[str] = Counter()
    checked: dict[Any, str] = {}
    blocks = {id(block): (block, block is stack[-1]) for stack in anatomy.stacks(model).values() for block in stack}
    for block, last in blocks.values():
        family = recognised(block)
        why = family if isinstance(family, str) else _differs(block, checked)
        if isinstance(family, str) or why:
            reasons[why] += 1
        else:
            found.append(Fused(block, family, last))
    for one in found:
        one.block.forward = one
    try:
        yield Report(len(found), len(blocks), dict(reasons))
    finally:
        for one in found:
            vars(one.block).pop("forward", None)


def recognised(block: nn.Module) -> Family | str:
    """The family's view of a block, or why there is none."""
    name = type(block).__name__
    if "forward" in vars(block):
        return f"The forward of {name} is replaced already."
    if hooked(block):
        return f"A hook inside {name} has to be called."
    device = next((parameter.device.type for parameter in block.parameters()), "none")
    if device not in DEVICES:
        return f"On '{device}' blocks run as they are, with the attention kernels made for it."
    for family in families():
        found = family.of(block)
        if found is not None:
            return found
    return f"No family of blocks is like {name}."


@cache
def families() -> list[type[Family]]:
    """The class of its own name of every file that has one."""
    package = importlib.import_module(__package__)
    found = []
    for entry in pkgutil.iter_modules(package.__path__):
        name = "".join(word.capitalize() for word in entry.name.split("_"))
        family = getattr(importlib.import_module(f"{__package__}.{entry.name}"), name, None)
        if family is not None and hasattr(family, "work"):
            found.append(family)
    return found


def hooked(block: nn.Module) -> bool:
    """Whether a module inside the block has a hook, which one function for all would not call."""
    # By hand: this is asked in every call, and `modules()` takes several times as long.
    left = [*block._modules.values()]
    while left:
        module = left.pop()
        if module is None:
            continue
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
            return True
        left.extend(module._modules.values())
    return False


def arguments(block: nn.Module) -> list[str]:
    """The names of what a block's forward takes."""
    parameters = list(inspect.signature(type(block).forward).parameters.values())[1:]  # without `self`
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _differs(block: nn.Module, checked: dict[Any, str]) -> str:
    """Why a block's kind can't run as one function: its numbers differ. "" where they agree."""
    kind = check.kind(block)
    if kind not in checked:
        checked[kind] = check.differs(block, recognised)
    return checked[kind]
