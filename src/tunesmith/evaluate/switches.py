"""What each block's part of a delta is worth: the metric without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.finished import Asked
from tunesmith.core.rows import Rows, each
from tunesmith.core.surgery import Inserted, Wrapper

OUTSIDE = "outside the blocks"
Modules = Sequence[Wrapper | Inserted]


def names(model: nn.Module) -> dict[str, str]:
    """What a reader calls each block, by its path: its number, from 1; of an encoder-decoder with the stack's name."""
    several = len(anatomy.stacks(model)) > 1
    found = {}
    for path in anatomy.blocks(model):
        *home, number = path.split(".")
        # T5's stacks are both called `block`: what holds them tells one from the other.
        found[path] = (
            f"{home[-2] if len(home) > 1 else home[-1]} {int(number) + 1}" if several else f"{int(number) + 1}"
        )
    return found


def groups(model: nn.Module) -> dict[str, Modules]:
    """Everything that was put into the model, by the block where it acts."""
    blocks = names(model)
    found: dict[str, list[Wrapper | Inserted]] = {}
    for path, module in surgery.inserted(model).items():
        name = next((name for block, name in blocks.items() if f"{path}.".startswith(f"{block}.")), OUTSIDE)
        found.setdefault(name, []).append(module)
    order = [name for name in (*blocks.values(), OUTSIDE) if name in found]
    return {name: found[name] for name in order}


def metrics_without(asked: Asked, rows: Rows) -> tuple[float, Mapping[str, float]]:
    """The task's main metric on rows, and the same while what stands in one block does not act, by the block.

    The head stays as it was trained, beside all that was put in.
    """
    truths, task = asked.task.truths(each(rows)), asked.task

    def measured() -> float:
        return task.metrics(truths, asked.predict(rows).answers)[task.metric]

    whole, found = measured(), {}
    for name, modules in groups(asked.model).items():
        with off(modules):
            found[name] = measured()
    return whole, found


@contextmanager
def off(modules: Modules) -> Iterator[None]:
    """Inside the block these modules do nothing."""
    before = [module.active for module in modules]
    for module in modules:
        module.active = False
    try:
        yield
    finally:
        for module, active in zip(modules, before, strict=True):
            module.active = active
