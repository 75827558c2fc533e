"""Memory between steps: kept by the process instead of going back to the system, and kept off the GPU.

glibc takes every block above a threshold from the system and gives it back when it is freed. A training frees and asks
for the same large blocks in every step, and the system fills each page with zeros when it is first written: a fault a
page. With both thresholds out of reach the blocks stay with the process until `keep_memory` ends.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from tunesmith.core.errors import RecipeError

TRIM, MMAP = -1, -3
"""glibc's names of the thresholds: free memory at the top that goes back, and size of a block that comes from mmap."""
LARGEST = 2**30
"""A larger block comes from the system as before, and goes back when it is freed."""
NEVER = 2**31 - 1
USUAL = 32 * 2**20
"""Where glibc lets the threshold of blocks grow by itself, and where older ones stop; the other grows to twice that."""
SMALL = 2**12
"""Fewer numbers than these stay on the GPU: a copy costs more than they take."""


@contextmanager
def keep_memory() -> Iterator[str]:
    """Inside the block, freed memory stays with the process; at the end it goes back. The thresholds, which grow with
    what a process frees until somebody sets them, are then where they would have grown to.

    Yields "", or why the system at hand can't have it.
    """
    library = _glibc()
    if library is None:
        yield "the C library is not glibc on Linux"
        return
    if not library.mallopt(MMAP, LARGEST):
        library.mallopt(MMAP, USUAL)
    library.mallopt(TRIM, NEVER)
    try:
        yield ""
    finally:
        library.mallopt(MMAP, USUAL)
        library.mallopt(TRIM, 2 * USUAL)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)


@contextmanager
def offloaded(model: nn.Module, device: str) -> Iterator[None]:
    """Inside the block, what forward passes keep for the backward pass waits in the main memory.

    Weights and small tensors stay where they are. On a CPU, whose memory that is, RecipeError is raised.
    """
    if device == "cpu":
        raise RecipeError(
            "speed.offload: on a CPU everything is in the main memory already.",
            hint="Leave it out; train.activation_checkpointing and train.micro_batch_size save memory.",
        )
    with torch.autograd.graph.saved_tensors_hooks(partial(_pack, _places(model)), _unpack):
        yield


def _places(model: nn.Module) -> frozenset[int]:
    """Where the model's own tensors are stored."""
    return frozenset(tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers()))


def _pack(places: frozenset[int], tensor: Tensor) -> tuple[torch.device, Tensor]:
    if tensor.numel() < SMALL or tensor.untyped_storage().data_ptr() in places:
        return tensor.device, tensor
    # Pinned memory takes the copy without a stop of the GPU, and only exists beside CUDA.
    pinned = tensor.device.type == "cuda"
    kept = torch.empty(tensor.shape, dtype=tensor.dtype, layout=tensor.layout, pin_memory=pinned)
    kept.copy_(tensor, non_blocking=pinned)
    return tensor.device, kept


def _unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = packed
    return tensor.to(device, non_blocking=tensor.is_pinned())
