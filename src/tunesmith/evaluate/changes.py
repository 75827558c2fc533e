"""What training changed in the weights: of each matrix of the blocks how much and in how many directions, and of all
other tensors how much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.linear import exact, weight_of
from tunesmith.core.surgery import LowRank, Wrapper

LARGEST = 2048
"""Matrices whose smaller side is longer than this are not taken apart into singular values: that takes minutes each."""
KINDS = ("matrices of the blocks", "biases", "norms", "embeddings", "other")
PLAIN = "other"


@dataclass(frozen=True)
class Change:
    """What became of one matrix of a block. path: of its linear. role: what it is for (`anatomy.roles`). size, weight:
    Frobenius norms of the change and of the weight before. values: the change's singular values, the largest first;
    None where they were not computed, or nothing changed.
    """

    path: str
    role: str
    size: float
    weight: float
    values: Tensor | None

    @property
    def relative(self) -> float:
        """The size of the change in that of the weight."""
        return self.size / self.weight if self.weight else 0.0


@dataclass(frozen=True)
class Moved:
    """What became of all tensors of a kind: how many are no longer the same, and how far they moved.

    size, weight: squares of the Frobenius norms of all changes, and of all tensors before.
    """

    kind: str
    tensors: int
    changed: int
    size: float
    weight: float


def effective_rank(values: Tensor) -> float:
    """exp(-sum p log p) with p = s / sum s, of singular values s: from 1, where all lies in one direction, to their
    number, where all are as large (Roy and Vetterli, "The Effective Rank", 2007). 0 where all are 0.
    """
    total = values.double().sum()
    if not total:
        return 0.0
    shares = values.double() / total
    return float(torch.exp(torch.special.entr(shares).sum()))


def of_product(product: LowRank) -> Tensor:
    """The singular values of scale * B A, of which there are no more than the rank, without the product itself.

    B = Q R and A^T = P S: those of B A are those of R S^T [rank, rank].
    """
    right = torch.linalg.qr(exact(product.a).T, mode="r").R
    left = torch.linalg.qr(exact(product.b), mode="r").R
    values: Tensor = torch.linalg.svdvals(abs(product.scale) * left @ right.T)
    return values


@torch.no_grad()
def of_matrices(before: nn.Module, now: nn.Module) -> tuple[list[Change], list[str]]:
    """The change of every matrix of the blocks; and the paths of those that stand in layers of other libraries, whose
    weight can't be read.
    """
    roles, found, foreign = anatomy.roles(before), [], []
    for path, old in anatomy.linears(before).items():
        new = _reached(now, path)
        if new is None or not _is_read(new, old):
            foreign.append(path)
        else:
            found.append(_change(path, roles.get(path, PLAIN), old, new))
    return found, foreign


@torch.no_grad()
def of_kinds(before: nn.Module, now: nn.Module) -> list[Moved]:
    """How far the tensors of every kind moved, the head's left out: they have no start to compare with."""
    kinds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for kind, old, new in _pairs(before, now):
        old, new = exact(old), exact(new).to(old.device)
        kinds[kind].append((float((new - old).square().sum()), float(old.square().sum())))
    return [
        Moved(kind, len(sizes), sum(change > 0 for change, _ in sizes), *map(sum, zip(*sizes, strict=True)))
        for kind, sizes in kinds.items()
        if sizes
    ]


def _change(path: str, role: str, old: nn.Module, new: nn.Module) -> Change:
    weight = weight_of(old)
    product = new.low_rank() if isinstance(new, Wrapper) else None
    if product is not None:
        values = of_product(product)
        size = float(values.norm())
        return Change(path, role, size, float(weight.norm()), values if size else None)
    change = weight_of(_merged(new)).to(weight.device) - weight
    size = float(change.norm())
    taken = size > 0 and min(change.shape) <= LARGEST
    return Change(path, role, size, float(weight.norm()), torch.linalg.svdvals(change) if taken else None)


def _pairs(before: nn.Module, now: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every tensor of the body once, before and now, with its kind; those that stand elsewhere now are passed over."""
    heads = {id(p) for head in anatomy.head(before).values() for p in head.parameters()}
    linears, norms, seen = anatomy.linears(before), anatomy.norms(before), set(heads)
    for path, old in before.named_modules():
        new = _reached(now, path)
        if new is None or not dict(old.named_parameters(recurse=False)):
            continue
        named = dict(_merged(new).named_parameters(recurse=False))
        for name, tensor in old.named_parameters(recurse=False):
            if id(tensor) in seen or name not in named or named[name].shape != tensor.shape:
                continue
            seen.add(id(tensor))
            if tensor.is_floating_point():
                yield _kind(path, name, old, set(linears), set(norms)), tensor, named[name]


def _kind(path: str, name: str, module: nn.Module, linears: set[str], norms: set[str]) -> str:
    if path in norms:
        return "norms"
    if name.endswith("bias"):
        return "biases"
    if isinstance(module, nn.Embedding):
        return "embeddings"
    return KINDS[0] if path in linears else PLAIN


def _reached(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a path of the backbone, past what was put around those on the way; None where there is none."""
    module: nn.Module | None = model
    for name in path.split(".") if path else ():
        while isinstance(module, Wrapper):
            module = module.base
        module = None if module is None else module._modules.get(name)
    return module


def _is_read(new: nn.Module, old: nn.Module) -> bool:
    """Whether the layer is the backbone's own, or a wrapper of ours around it."""
    inner = new
    while isinstance(inner, Wrapper):
        inner = inner.base
    return type(inner) is type(old)


def _merged(module: nn.Module) -> nn.Module:
    """The module with what was put around it in its weights; as it is where that is no change of weights."""
    if not isinstance(module, Wrapper):
        return module
    try:
        return module.merged()
    except NotImplementedError:
        return _merged(module.base)
