"""Operations on a model's modules: find, replace, freeze, switch off, merge, count. No idea of a method lives here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Wrapper(nn.Module):
    """A module of the backbone with something added to it; the original stays inside, untouched, as `base`.

    With `active` False the wrapper is its base. `weight` and `bias` are the base's, for code that looks at them.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.active = True

    @property
    def weight(self) -> Tensor:
        """The original weight."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The original bias."""
        return self.base.bias  # type: ignore[return-value]

    def merged(self) -> nn.Module:
        """The base with what was added folded into its weights."""
        raise NotImplementedError


def wrappers(model: nn.Module) -> dict[str, Wrapper]:
    """Every wrapper in the model, by its path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Wrapper)}


def replace(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` where the module at `path` stands."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def freeze(module: nn.Module) -> None:
    """Let nothing in `module` train."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def thaw(module: nn.Module) -> None:
    """Let everything in `module` train."""
    for parameter in module.parameters():
        parameter.requires_grad_(True)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that trains, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def count(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters: those that train, and all. Tied ones count once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Inside the block every wrapper is its base: the model is the backbone again. No weight moves."""
    before = {wrapper: wrapper.active for wrapper in wrappers(model).values()}
    for wrapper in before:
        wrapper.active = False
    try:
        yield
    finally:
        for wrapper, active in before.items():
            wrapper.active = active


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Replace every wrapper by its merged module: the model has the backbone's own modules again."""
    for path, wrapper in wrappers(model).items():
        replace(model, path, wrapper.merged())
