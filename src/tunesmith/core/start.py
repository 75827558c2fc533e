"""The weights from which a training began: kept once, for every part that compares with them."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunesmith.core import anatomy, surgery


@dataclass(frozen=True)
class Start:
    """weights: of the backbone's parameters that train, by name. fresh: the names of those that train and were not
    trained before: of the head, and of what a method put in.

    A weight that does not train needs no copy: it is its own start. With a method that trains none of the backbone's
    weights there is nothing to keep.
    """

    weights: Mapping[str, Tensor]
    fresh: Sequence[str]

    @classmethod
    def of(cls, model: nn.Module, kind: str = "float32") -> Start:
        """The start of a model that is about to train. kind: `float32` keeps the weights as they are, `bfloat16` rounds
        them to half the size, `disk` keeps them in a temporary file that is mapped into memory.
        """
        put_in = {id(p) for module in surgery.inserted(model).values() for p in module.parameters()}
        put_in -= {id(p) for wrapper in surgery.wrappers(model).values() for p in wrapper.base.parameters()}
        heads = {id(p) for module in anatomy.head(model).values() for p in module.parameters()}
        trained = surgery.trained(model)
        fresh = [name for name, parameter in trained.items() if id(parameter) in put_in | heads]
        old = {name: parameter.detach() for name, parameter in trained.items() if name not in set(fresh)}
        if kind == "disk":
            return cls(_on_disk(old), fresh)
        return cls({name: _copy(tensor, kind) for name, tensor in old.items()}, fresh)

    def twin(self, model: nn.Module) -> nn.Module:
        """A frozen copy of a model that is at its start, in evaluation. What trains lies in the start's memory where
        that is exact, and in a copy where it is not; the rest is the model's.
        """
        memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.buffers(), *model.parameters())}
        for name, parameter in surgery.trained(model).items():
            start = self.weights.get(name)
            exact = start is not None and (start.dtype, start.device) == (parameter.dtype, parameter.device)
            kept = start if exact and start is not None else parameter.detach().clone()
            memo[id(parameter)] = nn.Parameter(kept, requires_grad=False)
        made = copy.deepcopy(model, memo)
        surgery.freeze(made)
        return made.eval()

    def pairs(self, model: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
        """Name, weight now and weight at the start, the latter on the former's device, of all that has a start."""
        named = dict(model.named_parameters())
        return [(name, named[name], start.to(named[name].device)) for name, start in self.weights.items()]


def _copy(tensor: Tensor, kind: str) -> Tensor:
    return tensor.to(torch.bfloat16, copy=True) if kind == "bfloat16" else tensor.clone()


def _on_disk(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that the system may drop from memory, and reads again when they are used."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        path = Path(folder) / "start.safetensors"
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path)
        # Mapped: the file's name goes with the folder, its pages stay as long as the tensors do.
        return load_file(path)
