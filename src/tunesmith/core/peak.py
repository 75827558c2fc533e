"""The most memory that was held so far."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory() -> int:
    """Most bytes held so far: by the process, or on the GPU where there is one."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
