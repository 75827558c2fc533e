"""Which linears of the blocks a method works on, as a recipe's setting `targets` says it."""

from __future__ import annotations

import re
from difflib import get_close_matches

from torch import nn
from transformers.pytorch_utils import Conv1D

from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError

ATTENTION, ALL = "attention", "all-linear"


def choose(model: nn.Module, targets: str) -> dict[str, nn.Linear | Conv1D]:
    """The linears, by path: `attention` gives queries and values, `all-linear` every linear of the blocks, anything
    else is a pattern that must match a whole path or its last words (`value`, `output.dense`, `.*layer.0.*`).

    Raises ModelError with the nearest names for a pattern that matches nothing, and for one that is no pattern.
    """
    every = anatomy.linears(model)
    if targets == ATTENTION:
        chosen = anatomy.query_and_value(model)
    elif targets == ALL:
        chosen = every
    else:
        chosen = {path: every[path] for path in matching(targets, list(every), "method.targets")}
    if not chosen:
        raise ModelError(
            f"method.targets {targets!r} matches no linear of {type(model).__name__}.{_near(targets, list(every))}",
            hint="Say 'attention', 'all-linear', or a pattern of their names.",
        )
    return chosen


def matching(pattern: str, paths: list[str], setting: str) -> list[str]:
    """The paths that a pattern matches, whole or from a dot on; no pattern at all raises ModelError."""
    try:
        compiled = re.compile(rf"(?:.*\.)?(?:{pattern})")
    except re.error as error:
        raise ModelError(f"{setting} {pattern!r} is no pattern: {error}.") from None
    return [path for path in paths if compiled.fullmatch(path)]


def _near(targets: str, paths: list[str]) -> str:
    # Blocks are alike: their linears' names without the blocks' numbers are few.
    names = sorted({re.split(r"\.\d+\.", path, maxsplit=1)[-1] for path in paths})
    called = {**{name.rpartition(".")[2]: name for name in names}, **{name: name for name in names}}
    close = get_close_matches(targets, called, n=1, cutoff=0.4)
    near = f" Did you mean '{called[close[0]]}'?" if close else ""
    return f"{near} The linears of its blocks: {', '.join(names) or 'none'}."
