"""One seed for a run; one stream of random numbers for each part, so that adding a part shifts no other."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(seed: int, name: str) -> int:
    """A 63-bit seed that depends on the run's `seed` and on `name` alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """A generator of its own for the part `name` (on the CPU, so that every device draws the same)."""
    return torch.Generator().manual_seed(seed_of(seed, name))


def seed_everything(seed: int) -> None:
    """Seed the global generators, which backbones use for fresh heads and for dropout."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def undrawn() -> Iterator[None]:
    """Inside the block random numbers are drawn; after it, the global generators are as if none had been."""
    python, numbers = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
