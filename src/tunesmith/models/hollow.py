"""Models whose tensors have no memory yet, which is how transformers makes one before it reads its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def quick() -> Iterator[None]:
    """Inside, a tensor without memory is not filled, and one in its place is simply made.

    For either torch would load its compiler's mathematics, which takes longer than reading a small model.
    """
    fill, like = nn.init.normal_, torch.empty_like

    def filled(tensor: Tensor, *args: Any, **named: Any) -> Tensor:
        return tensor if tensor.is_meta else fill(tensor, *args, **named)

    def made(tensor: Tensor, **named: Any) -> Tensor:
        plain = tensor.is_meta and tensor.is_contiguous() and named.keys() <= {"device", "dtype"}
        return torch.empty(tensor.shape, **{"dtype": tensor.dtype, **named}) if plain else like(tensor, **named)

    nn.init.normal_, torch.empty_like = filled, made  # type: ignore[assignment]
    try:
        yield
    finally:
        nn.init.normal_, torch.empty_like = fill, like
