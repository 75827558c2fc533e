"""What was made of a block's weights, such as copies in another type, kept until one of them changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

T = TypeVar("T")


class Steps:
    """How many steps the optimizers of this process have taken: fused ones change weights without torch's counting it
    as a new version.
    """

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._taken)

    def _taken(self, *_: Any) -> None:
        self.count += 1


@cache
def steps() -> Steps:
    """The one counter of this process, which counts from the first call on."""
    return Steps()


class Memory:
    """What was made of some tensors, until one of them changes. A copy remembers nothing."""

    def __init__(self) -> None:
        self._steps = steps()
        self._known: dict[str, tuple[Any, list[Tensor], dict[Any, Any]]] = {}

    def __deepcopy__(self, _: Any) -> Memory:
        return Memory()

    def of(self, name: str, tensors: Sequence[Tensor], settings: Any, make: Callable[[], T]) -> T:
        """What `make` gives, or gave for the same values of the tensors, for each of the settings that take turns."""
        trains = any(tensor.requires_grad for tensor in tensors)
        step = self._steps.count if trains else None
        key, known = (step, [(id(tensor), tensor._version) for tensor in tensors]), self._known.get(name)
        if known is None or known[0] != key:
            known = self._known[name] = (key, list(tensors), {})  # held, so that no other tensor takes one's id
        made = known[2]
        if settings not in made:
            # Copies outlive the mode in which they are made: one made while predicting serves training too.
            with torch.inference_mode(False), torch.no_grad():
                made[settings] = make()
        return cast(T, made[settings])
