"""Operations on a model's modules: find, replace, freeze, switch off, merge, count. No idea of a method lives here."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tunesmith.core import anatomy
from tunesmith.core.quantised import Quantised


@dataclass(frozen=True)
class LowRank:
    """What is added to a linear's output: `scale * (dropout(x) A^T) B^T`; A [rank, in], B [out, rank]."""

    a: Tensor
    b: Tensor
    scale: float
    dropout: float


class Wrapper(nn.Module):
    """A module of the backbone with something added to it; the original stays inside, untouched, as `base`.

    With `active` False the wrapper is its base. `weight` and `bias` are the base's, for code that looks at them.
    """

    sealed = 0
    """Which of the deltas below this one, from 1 on, put it in; 0 for this one (`core/sealed.py`)."""

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

    def low_rank(self) -> LowRank | None:
        """What this wrapper adds, where it is a low-rank product and nothing else; None where it is not."""
        return None


class Inserted(nn.Module):
    """A module put beside the backbone's own: it may change what goes into its host's forward, and what comes out.

    With `active` False it does nothing.
    """

    sealed = 0
    """As a wrapper's."""

    def __init__(self) -> None:
        super().__init__()
        self.active = True

    def before(self, host: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        """The host's arguments, by name, changed."""
        return arguments

    def after(self, host: nn.Module, arguments: dict[str, Any], output: Any) -> Any:
        """The host's output, changed; `arguments` are those that the host was called with."""
        return output

    def _before(self, host: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return ((), self.before(host, _by_name(host, given, named))) if self.active else None

    def _after(self, host: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        return self.after(host, _by_name(host, given, named), output) if self.active else None


def _by_name(host: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    names = list(inspect.signature(type(host).forward).parameters)[1:]  # without `self`
    return {**dict(zip(names, given, strict=False)), **named}


def insert(host: nn.Module, name: str, module: Inserted) -> None:
    """Put `module` into `host` under `name`, and let it act whenever the host is called."""
    host.add_module(name, module)
    # Bound methods, so that a deep copy of the host calls the copy of the module.
    host.register_forward_pre_hook(module._before, with_kwargs=True)
    host.register_forward_hook(module._after, with_kwargs=True)


def inserted(model: nn.Module) -> dict[str, Wrapper | Inserted]:
    """Everything that was put into the model and is not sealed, by its path."""
    every = model.named_modules()
    return {path: module for path, module in every if isinstance(module, Wrapper | Inserted) and not module.sealed}


def wrappers(model: nn.Module) -> dict[str, Wrapper]:
    """Every wrapper in the model that is not sealed, by its path."""
    return {path: module for path, module in inserted(model).items() if isinstance(module, Wrapper)}


def replace(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` where the module at `path` stands, and wherever else the model holds that same one (T5 holds its
    embeddings three times).
    """
    old = model.get_submodule(path)
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old and parent is not module:
                parent._modules[name] = module


def freeze(module: nn.Module) -> None:
    """Let nothing in `module` train."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def thaw(module: nn.Module) -> None:
    """Let everything in `module` train."""
    for parameter in module.parameters():
        parameter.requires_grad_(True)


def freeze_backbone(model: nn.Module, but: Iterable[nn.Parameter] = ()) -> None:
    """Let the head train, of the backbone the parameters in `but`, and nothing else."""
    freeze(model)
    for head in anatomy.head(model).values():
        thaw(head)
    for parameter in but:
        parameter.requires_grad_(True)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that trains, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def moves_statistics(model: nn.Module, trained: Collection[str]) -> bool:
    """Whether training moves statistics of batches that the model keeps (its batch norms'): where every parameter
    trains, as only a model that is saved whole takes them along.
    """
    kept = any(isinstance(module, _BatchNorm) for module in model.modules())
    return kept and all(name in trained for name, _ in model.named_parameters())


def train(model: nn.Module, trained: Collection[str]) -> None:
    """Put the model into training; batch norms use their statistics and leave them, unless training moves them."""
    model.train()
    if not moves_statistics(model, trained):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def count(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters: those that train, and all. Tied ones count once, quantised ones as if they were not."""
    parameters = list(model.parameters())
    packed = sum(module.unstored() for module in model.modules() if isinstance(module, Quantised))
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters) + packed


def seal(model: nn.Module, number: int) -> None:
    """Let what was put in so far be part of the model, as its delta of this number, from 1 on: it acts on, frozen and
    without dropout, nothing lists it, and what is put in from now on stands on it.
    """
    for module in inserted(model).values():
        module.sealed = number
        freeze(module)
        # Not the base's own, which drops out as the backbone does.
        for name, child in module.named_children():
            for dropout in child.modules() if name != "base" else ():
                if isinstance(dropout, nn.Dropout):
                    dropout.p = 0.0


@contextmanager
def revealed(model: nn.Module, number: int) -> Iterator[None]:
    """Inside the block the sealed delta of this number is the one that is listed, and no other."""
    every = [module for module in model.modules() if isinstance(module, Wrapper | Inserted)]
    before = [(module, module.sealed) for module in every]
    for module, sealed in before:
        module.sealed = 0 if sealed == number else -1
    try:
        yield
    finally:
        for module, sealed in before:
            module.sealed = sealed


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """Inside the block nothing that was put in acts: the model is the backbone again. No weight moves."""
    before = {module: module.active for module in inserted(model).values()}
    for module in before:
        module.active = False
    try:
        yield
    finally:
        for module, active in before.items():
            module.active = active


@contextmanager
def taken_out(model: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Inside the block the model is without the modules at these paths."""
    places = [(model.get_submodule(path.rpartition(".")[0])._modules, path.rpartition(".")[2]) for path in paths]
    modules = [(home, name, home[name]) for home, name in places]
    for home, name, _ in modules:
        home[name] = None
    try:
        yield
    finally:
        for home, name, module in modules:
            home[name] = module


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Replace every wrapper by its merged module: the model has the backbone's own modules again."""
    for path, wrapper in wrappers(model).items():
        replace(model, path, wrapper.merged())
