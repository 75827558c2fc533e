"""What earlier deltas put into a model, once others are to stand on it: sealed, which is to be seen from outside alone.

A sealed module acts as before, frozen. Whoever looks for the backbone's own places (`core/anatomy.py`) finds it at the
path of the module that it wraps, as one of that kind, and does not find what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from tunesmith.core.errors import ModelError


def number(module: nn.Module) -> int:
    """Which of the stacked deltas put the module in, from 1 on; 0 for a module that is not sealed."""
    return int(getattr(module, "sealed", 0))


def core(module: nn.Module) -> nn.Module:
    """The backbone's own module inside sealed wrappers; another module is its own."""
    while number(module) and isinstance(base := getattr(module, "base", None), nn.Module):
        module = base
    return module


def outside(model: nn.Module, every: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """`named_modules`, sealed ones too, without what is inside of these. every: a module under each of its paths."""
    last: str | None = None
    for path, module in model.named_modules(remove_duplicate=not every):
        if last is not None and path.startswith(last):
            continue
        last = f"{path}." if number(module) else None
        yield path, module


def plain(module: nn.Module) -> nn.Module:
    """A sealed wrapper as one module of the backbone's kind, all folded into its weights; another module is its own.

    One that no weights stand for raises ModelError.
    """
    if not number(module):
        return module
    try:
        return cast(nn.Module, module.merged())  # type: ignore[operator]
    except NotImplementedError:
        raise ModelError(
            f"The weights below are asked for where an earlier delta put in {type(module).__name__}, which no weights "
            "stand for.",
            hint="Use method lora, or other method.targets, or let the earlier delta be merged.",
        ) from None
