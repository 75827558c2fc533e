"""The largest tensor that is made inside a block, views left out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Largest(TorchDispatchMode):
    """`numbers`: how many numbers the largest tensor had that an operation gave, of one kind or of any."""

    def __init__(self, kind: torch.dtype | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind, self.numbers = kind, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at what the operation gives."""
        output = func(*args, **(kwargs or {}))
        sizes = [
            one.untyped_storage().nbytes() // one.element_size()
            for one in tree_leaves(output)
            if isinstance(one, Tensor) and self.kind in (None, one.dtype)
        ]
        self.numbers = max(self.numbers, *sizes, 0)
        return output
