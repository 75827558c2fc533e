"""What a model has other than its backbone, in two files: exactly, bit by bit, or with matrices of low rank.

    difference.json          how every tensor is stored, and what was measured
    difference.safetensors   the tensors

A tensor that is the backbone's is left out. The others are stored in one of three ways:

    bits      its bits XOR the backbone's. Where both are near, sign, exponent and the first bits of the mantissa agree:
              the zeros compress. The bytes of all elements are sorted by their place in an element, then zlib.
    whole     its own bits, packed alike: the task's head, which the backbone does not have
    factors   U and V of w = w0 + U V, from the singular value decomposition of w - w0, cut to a rank
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunesmith.core import sharing
from tunesmith.core.errors import ModelError
from tunesmith.core.files import read_json, reading, write_json

TOLD, FILE = "difference.json", "difference.safetensors"
LEVEL = 1
"""How hard zlib tries: 6 took two and a half times as long on a model of 91 MB, for 3 percent less."""


@dataclass(frozen=True)
class Stored:
    """How one tensor is stored: `way` is bits, whole or factors."""

    way: str
    shape: list[int]
    dtype: str


def there(folder: Path) -> bool:
    """Whether the folder of a model holds a difference."""
    return (folder / TOLD).is_file() or (folder / FILE).is_file()


def pack(tensor: Tensor, base: Tensor | None) -> Tensor:
    """The tensor's bits, XOR the base's where there is one, compressed: uint8 [bytes]."""
    plain = sharing.bits(tensor)
    if base is not None:
        plain = plain ^ sharing.bits(base)
    planes = plain.reshape(-1, tensor.element_size()).T.contiguous()  # [size of an element, elements]
    return torch.frombuffer(bytearray(zlib.compress(planes.numpy().tobytes(), LEVEL)), dtype=torch.uint8)


def unpack(packed: Tensor, base: Tensor | None, like: Tensor) -> Tensor:
    """What `pack` packed, with the shape and the type of `like`, on the CPU. Damage raises ValueError."""
    try:
        plain = zlib.decompress(packed.numpy().tobytes())
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(plain) != like.nbytes:
        raise ValueError(f"{len(plain)} bytes where {like.nbytes} are expected")
    planes = torch.frombuffer(bytearray(plain), dtype=torch.uint8) if plain else torch.empty(0, dtype=torch.uint8)
    found = planes.reshape(like.element_size(), -1).T.contiguous().reshape(-1)
    if base is not None:
        found = found ^ sharing.bits(base)
    return found.view(like.dtype).reshape(like.shape)


def factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(U, V), U [out, rank] and V [rank, in], whose product is the best approximation of `change` [out, in] of that
    rank in the Frobenius norm (Eckart and Young, 1936): U = U_r sqrt(S_r), V = sqrt(S_r) V_r^T.
    """
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]


def write(model: nn.Module, base: nn.Module, folder: Path, rank: int | None) -> float:
    """Write what `model` has other than `base`; returns the relative error, the Frobenius norm of what is lost over
    that of the difference (0 without a rank). A rank that no changed matrix has raises ModelError.
    """
    heads, zero = sharing.in_head(model), sharing.named(base)
    _same_names(model, base, heads)
    found = {n: t for n, t in _distinct(model).items() if n in heads or not sharing.same_bits(t, zero[n])}
    if rank is not None:
        _check_rank(rank, [tensor for name, tensor in found.items() if name not in heads and tensor.dim() == 2])
    told: dict[str, Stored] = {}
    stored: dict[str, Tensor] = {}
    lost = total = 0.0
    for name, tensor in found.items():
        way = "whole" if name in heads else "factors" if _thin(tensor, rank) else "bits"
        told[name] = Stored(way, list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        if way == "factors" and rank is not None:
            change = _exact(tensor) - _exact(zero[name])
            up, down = factors(change, rank)
            stored |= {f"{name}.U": up.contiguous(), f"{name}.V": down.contiguous()}
            lost += (change - up @ down).square().sum().item()
        else:
            stored[name] = pack(tensor, None if way == "whole" else zero[name])
        if name not in heads and tensor.is_floating_point():
            total += (_exact(tensor) - _exact(zero[name])).square().sum().item()
    save_file(stored, folder / FILE, metadata={"format": "pt"})
    write_json(folder / TOLD, {"rank": rank, "tensors": {name: asdict(one) for name, one in told.items()}})
    return float((lost / total) ** 0.5) if total else 0.0


def measured(folder: Path, figures: Mapping[str, Any]) -> None:
    """Keep figures in front of what `write` told."""
    write_json(folder / TOLD, {**figures, **read_json(folder / TOLD)})


def places(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The tensors of a model into which the folder's difference would be read. One that does not fit raises
    ModelError.
    """
    there = sharing.named(model)
    told = _told(folder)
    extra = sorted(set(told) - set(there))
    if extra:
        raise ModelError(f"The difference in {folder} doesn't fit: the model has no {extra[0]} ({len(extra)} such).")
    for name, one in told.items():
        found = [list(there[name].shape), str(there[name].dtype).removeprefix("torch.")]
        if found != [one.shape, one.dtype]:
            raise ModelError(
                f"The difference in {folder} doesn't fit: {name} is {one.dtype} {tuple(one.shape)}, the model asks for "
                f"{found[1]} {tuple(there[name].shape)}.",
                hint="It was made for another backbone, or for another number of classes.",
            )
    return {name: there[name] for name in told}


@torch.no_grad()
def read(model: nn.Module, folder: Path) -> None:
    """Read a difference into the backbone it was made for. Missing, damaged and foreign files raise ModelError, before
    a tensor is touched.
    """
    found, told = places(model, folder), _told(folder)
    stored = _load(folder)
    fresh = {}
    for name, place in found.items():
        try:
            fresh[name] = _restored(name, told[name].way, place, stored)
        except (KeyError, ValueError, RuntimeError) as error:
            raise _damaged(folder / FILE, f"{name}: {error}") from error
    for name, place in found.items():
        place.copy_(fresh[name])


def _restored(name: str, way: str, place: Tensor, stored: Mapping[str, Tensor]) -> Tensor:
    if way == "factors":
        up, down = stored[f"{name}.U"], stored[f"{name}.V"]
        return (_exact(place).cpu() + up @ down).to(place.dtype)
    return unpack(stored[name], None if way == "whole" else place, place)


def _told(folder: Path) -> dict[str, Stored]:
    values = read_json(folder / TOLD)
    with reading(folder / TOLD):
        return {str(name): Stored(**one) for name, one in values["tensors"].items()}


def _load(folder: Path) -> dict[str, Tensor]:
    if not (folder / FILE).is_file():
        raise ModelError(f"The folder {folder} is no such delta: it has no {FILE}.", hint="Copy the folder again.")
    try:
        return load_file(folder / FILE)
    except SafetensorError as error:
        raise _damaged(folder / FILE, str(error)) from error


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"The delta {path} is damaged: {why}.", hint="Copy the file again.")


def _distinct(model: nn.Module) -> dict[str, Tensor]:
    """`named` with one name for every tensor."""
    firsts: dict[int, str] = {}
    found = sharing.named(model)
    for name, tensor in found.items():
        firsts.setdefault(id(tensor), name)
    return {name: found[name] for name in firsts.values()}


def _same_names(model: nn.Module, base: nn.Module, heads: set[str]) -> None:
    ours, theirs = sharing.named(model), sharing.named(base)
    other = sorted((set(ours) - heads) ^ (set(theirs) - sharing.in_head(base)))
    if other or sharing.ties(model) != sharing.ties(base):
        what = f"{other[0]} is in one alone" if other else "one shares weights (of output layer and embeddings) that "
        what += "" if other else "the other has apart"
        raise ModelError(
            f"The model can't be told by its difference to the backbone: {what}.", hint="Leave --as-delta out."
        )


def _thin(tensor: Tensor, rank: int | None) -> bool:
    """Whether two factors of this rank are smaller than the matrix."""
    return rank is not None and tensor.dim() == 2 and rank * sum(tensor.shape) < tensor.numel()


def _check_rank(rank: int, matrices: list[Tensor]) -> None:
    largest = max((min(matrix.shape) for matrix in matrices), default=0)
    if rank > largest:
        told = f"the changed matrices have at most {largest}" if largest else "no matrix of the backbone has changed"
        raise ModelError(f"The rank {rank} is too large: {told}.", hint="Give a smaller one, or --as-delta exact.")


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()
