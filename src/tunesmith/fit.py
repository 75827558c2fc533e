"""The largest batch that fits into memory, found by trying: forward and backward on the longest rows, no step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from tunesmith.core import anatomy, surgery
from tunesmith.core.notes import note
from tunesmith.core.part import Task
from tunesmith.core.peak import peak_memory
from tunesmith.core.rows import Rows, take
from tunesmith.core.step import Step
from tunesmith.models.load import Backbone

MOST = 256
"""The largest batch that is tried: larger ones hardly run faster, and learn less from the same data."""
SHARE = 0.8
"""The share of free memory that a training may take: the rest is for the optimizer's step and for measuring."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def batch_size(backbone: Backbone, task: Task, rows: Rows, lengths: np.ndarray, kind: torch.dtype) -> int:
    """The largest power of two, at most MOST and the number of rows, whose longest rows fit into memory; said."""
    longest = np.argsort(-lengths, kind="stable")
    device = anatomy.device_of(backbone.model)
    buffers = [buffer.clone() for buffer in backbone.model.buffers()]

    def trial(size: int) -> None:
        examples = task.encode(take(rows, longest[:size].tolist()), backbone.tokenizer, backbone.limit)
        batch = task.collate(examples, backbone.tokenizer).to(device)
        try:
            with torch.autocast(device.type, dtype=kind, enabled=kind != torch.float32):
                loss = task.loss(Step(backbone.model, task, batch))
            if loss.requires_grad:
                loss.backward()
        finally:
            backbone.model.zero_grad(set_to_none=True)
            with torch.no_grad():  # batch norms have moved their statistics
                for buffer, before in zip(backbone.model.buffers(), buffers, strict=True):
                    buffer.copy_(before)

    surgery.train(backbone.model, surgery.trained(backbone.model))
    moments = 2 * sum(p.numel() * p.element_size() for p in surgery.trained(backbone.model).values())
    tried = largest_on_gpu if device.type == "cuda" else largest
    found = tried(trial, min(MOST, len(rows)), moments)
    note(f"Batch size {found}: the largest power of two up to {MOST} that fits into memory and is not above the rows.")
    return found


def largest(trial: Callable[[int], None], most: int, reserved: int, free: Callable[[], int] | None = None) -> int:
    """The largest size, doubling from 1, that is not expected to need more than SHARE of the free memory.

    A doubling is expected to need twice what the one before it added to the peak. Nothing is tried that would not fit,
    as a process without memory is killed and can't go on with less. reserved: bytes that a training needs besides.
    """
    room = SHARE * (free or free_memory)() - reserved
    start = before = peak_memory()
    size = 1
    while True:
        trial(size)
        now = peak_memory()
        expected = now - start + 2 * (now - before)
        before = now
        if 2 * size > most or expected > room:
            return size
        size *= 2


def largest_on_gpu(trial: Callable[[int], None], most: int, reserved: int) -> int:
    """The largest size, doubling from 1, that did not run out of memory with `reserved` bytes taken besides."""
    held = torch.empty(reserved, dtype=torch.uint8, device="cuda")
    size = 0
    while max(1, 2 * size) <= most:
        try:
            trial(max(1, 2 * size))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        size = max(1, 2 * size)
    del held
    return max(1, size)


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of the container it runs in."""
    free = psutil.virtual_memory().available
    for path in LIMITS:
        if path.is_file() and (limit := path.read_text(encoding="ascii").strip()).isdigit():
            free = min(free, int(limit) - psutil.Process().memory_info().rss)
    return int(free)
