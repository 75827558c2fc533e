"""The machine: what it is, how fast it multiplies, how much memory a process holds."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import resource
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "peft", "trl")
SIZES = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices whose product is timed, by device."""


def facts(device: str) -> str:
    """Date, hardware and versions in one line."""
    there = [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]
    versions = ", ".join(f"{name} {version(name)}" for name in there)
    return f"{date.today()}, {processor(device)}, {versions}"


def processor(device: str) -> str:
    """The GPU's name, or the processor's with its cores and what multiplies bfloat16 fast."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = re.findall(r"^model name\s*:\s*(.+)$", told, re.MULTILINE)
    units = [unit.upper().replace("_", "-") for unit in ("avx512_bf16", "amx_bf16") if f" {unit}" in told]
    name = ", ".join([*names[:1], platform.machine(), *units])
    return f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores ({name})"


def matrix_rate(device: str, seconds: float = 1.0) -> float:
    """bfloat16 operations a second in the product of two large square matrices, 2 n^3 each: the median of what fits
    into `seconds`.
    """
    import torch

    size = SIZES[device]
    a, b = (torch.randn(size, size).to(device, torch.bfloat16) for _ in range(2))

    def once() -> float:
        began = time.perf_counter()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()  # The first only warms up.
    times: list[float] = []
    while sum(times) < seconds:
        times.append(once())
    return 2 * size**3 / sorted(times)[len(times) // 2]


def environment() -> dict[str, str]:
    """The environment of a run: no hub is asked."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


def peak_memory(device: str) -> int:
    """Most bytes that this process held so far: on the GPU, or in the main memory."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def held_memory(device: str) -> int:
    """Bytes that this process holds now."""
    if device == "cuda":
        import torch

        return int(torch.cuda.memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)
