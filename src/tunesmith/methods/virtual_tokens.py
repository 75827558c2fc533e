"""Virtual tokens before a text: where they go in, and what masks, positions and caches must know. Shared by prefix
and prompt.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError


def owners(model: nn.Module) -> list[nn.Module]:
    """The modules that take token ids and run a stack of blocks: one, or an encoder and then a decoder."""
    found: dict[nn.Module, None] = {}
    for stack in anatomy.stacks(model):
        parts = stack.split(".")
        above = [model.get_submodule(".".join(parts[:length])) for length in reversed(range(len(parts)))]
        owner = next((module for module in above if takes(module, "input_ids", "attention_mask")), None)
        if owner is not None:
            found[owner] = None
    return list(found)


def takes(module: nn.Module, *names: str) -> bool:
    """Whether the module's forward has arguments of these names."""
    return set(names) <= set(inspect.signature(type(module).forward).parameters)


def holds_tokens(cache: Any) -> bool:
    """Whether a cache of keys and values has seen a token. One of fixed size raises ModelError."""
    if getattr(cache, "is_compileable", False):
        raise ModelError(
            "Virtual tokens need a cache that grows; one of fixed size has no room for them.",
            hint="Leave cache_implementation out.",
        )
    return cache is not None and cache.get_seq_length() > 0


def in_front(tensor: Tensor, count: int, value: int) -> Tensor:
    """[..., time] -> [..., count + time]: `value`, `count` times, before everything else."""
    return torch.cat([tensor.new_full((*tensor.shape[:-1], count), value), tensor], dim=-1)


def behind(arguments: dict[str, Any], count: int) -> dict[str, Any]:
    """The arguments for a text that `count` virtual tokens stand before: its mask lets it see them, and its positions
    begin after theirs, where masks and positions are given at all.

    A mask that says of every pair of tokens who sees whom must be the kind that is added to scores ([batch, 1, time,
    time]: 0, or far below), with no token that sees a later one; another raises ModelError.
    """
    changed = dict(arguments)
    mask, positions = arguments.get("attention_mask"), arguments.get("position_ids")
    if mask is not None:
        if not isinstance(mask, Tensor) or (mask.dim() > 3 and not _is_added(mask)):
            raise ModelError("Virtual tokens need an attention mask with one entry a token: [batch, time].")
        changed["attention_mask"] = in_front(mask, count, 0 if mask.dim() == 4 else 1)
    if positions is not None:
        changed["position_ids"] = positions + count
    return changed


def own_rows(mask: Tensor, count: int) -> Tensor:
    """What `count` virtual tokens before a text see themselves, on top of a mask of pairs that `behind` made: those up
    to them. [batch, 1, time, count + time] -> [batch, 1, count + time, count + time].
    """
    closed = torch.finfo(mask.dtype).min
    rows = mask.new_full((*mask.shape[:-2], count, mask.shape[-1]), closed).triu(1)
    return torch.cat([rows, mask], dim=-2)


def _is_added(mask: Tensor) -> bool:
    if mask.dim() != 4 or mask.shape[-1] != mask.shape[-2] or not mask.is_floating_point():
        return False
    later = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool((mask <= 0).all() and (mask[later] < 0).all())
