"""Models that share the memory of their weights: a copy of the modules alone, with memory of its own where it differs.

Several deltas on one backbone are several such copies: to switch between them is to take another copy, so that no
weight moves, and nothing done to one is seen by another.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def skeleton(model: AnyModule) -> AnyModule:
    """A copy of the model's modules, hooks, flags and configuration, whose tensors lie in the model's own memory.

    A tensor that is written in place changes in both: `own` comes before that.
    """
    memo: dict[int, object] = {id(tensor): _view(tensor) for tensor in _all(model)}
    return copy.deepcopy(model, memo)


def pointers(model: nn.Module) -> set[int]:
    """Where the memory of every tensor of the model starts."""
    return {tensor.data_ptr() for tensor in _all(model) if tensor.numel()}


def own(model: nn.Module, written: Iterable[Tensor], shared: Collection[int]) -> None:
    """Give the model memory of its own for all that `written` lies in, as far as it is `shared` (`pointers`)."""
    spans = [(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in written]

    def touched(tensor: Tensor) -> bool:
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        return start in shared and any(low < end and start < high for low, high in spans)

    substitute(model, {id(tensor): _like(tensor, tensor.detach().clone()) for tensor in _all(model) if touched(tensor)})


def join(model: nn.Module, base: nn.Module) -> tuple[list[str], list[str]]:
    """Let every tensor that has the bits of the base's of the same name lie in the base's memory.

    Returns the names of those, and of the others that the base has too.
    """
    there = named(base)
    both = {name: tensor for name, tensor in named(model).items() if name in there}
    same = [name for name, tensor in both.items() if same_bits(tensor, there[name])]
    substitute(model, {id(both[name]): _like(both[name], there[name].detach()) for name in same})
    return same, [name for name in both if name not in same]


def substitute(model: nn.Module, fresh: Mapping[int, Tensor]) -> None:
    """Put other tensors in the places of those with these `id`s, wherever the model holds them (tied weights)."""
    for module in model.modules():
        for places in (module._parameters, module._buffers):
            for name, tensor in places.items():
                if id(tensor) in fresh:
                    places[name] = fresh[id(tensor)]  # type: ignore[assignment]


def named(model: nn.Module) -> dict[str, Tensor]:
    """Every saved tensor: the body's by their names in it, so that they are the same under any head, the others by
    their full names. Tied ones come under each of their names.
    """
    body = anatomy.backbone(model)
    inner: dict[str, Tensor] = dict(body.state_dict(keep_vars=True))
    if body is model:
        return inner
    inside = f"{path_of_body(model)}."
    outer = model.state_dict(keep_vars=True)
    return inner | {name: tensor for name, tensor in outer.items() if not name.startswith(inside)}


def path_of_body(model: nn.Module) -> str:
    """Where in the model its body is; empty where it is the body alone."""
    body = anatomy.backbone(model)
    found: str = next(name for name, module in model.named_modules() if module is body)
    return found


def ties(model: nn.Module) -> set[frozenset[str]]:
    """Which names of `named` stand for one tensor."""
    groups: dict[int, set[str]] = {}
    for name, tensor in named(model).items():
        groups.setdefault(id(tensor), set()).add(name)
    return {frozenset(names) for names in groups.values() if len(names) > 1}


def in_head(model: nn.Module) -> set[str]:
    """The names of `named` that belong to the task's head."""
    return {f"{name}.{key}" for name, head in anatomy.head(model).items() for key in head.state_dict()}


def bits(tensor: Tensor) -> Tensor:
    """The tensor's bytes on the CPU: uint8 [elements * size of an element]."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal bit by bit, so that a zero and a negative zero differ."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return first.data_ptr() == second.data_ptr() or torch.equal(bits(first), bits(second))


def _all(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _view(tensor: Tensor) -> Tensor:
    # Tensors of other types (quantised ones) know more than their memory: these are shared as they are.
    return _like(tensor, tensor.detach()) if type(tensor) in (Tensor, nn.Parameter) else tensor


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """`values` as a parameter where `tensor` is one."""
    return nn.Parameter(values, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
