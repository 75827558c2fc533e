"""Dropout whose masks come from a fast generator, 8 bits an element.

With s = round(p * 65536) and a = floor(s / 256), a number is dropped where a uniform draw of 8 bits is below a, and of
all numbers each once more with probability r, so that it is dropped with

    a / 256 + (1 - a / 256) r = s / 65536

These few are drawn as places: Poisson(-n log(1 - r)) of them, anywhere among n numbers and with repetitions, hit every
number independently with probability r. So p is exact to 1/65536, at half the cost of 16 bits an element, and what is
kept is divided by exactly the probability of being kept: the mean of the result is the input. A mask is an integer as
wide as the numbers it meets, with all bits set (keep) or none (drop), and is applied by `and`: no conversion, no
product. Each `Masks` is seeded by one draw from torch's own generator, so that a saved state of that generator repeats
it: a resumed run, and a forward pass that activation checkpointing does again, drop the same.

This is for the CPU, where torch draws one Bernoulli number after another; other devices draw in parallel anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

STEPS = 65536
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def steps(p: float) -> int:
    """How many of the 65536 draws drop a number: never none, and never all."""
    return min(max(round(p * STEPS), 1), STEPS - 1)


def scale_of(p: float) -> float:
    """What the kept numbers have to be multiplied by: 1 / (1 - p), with p rounded to 1/65536."""
    return STEPS / (STEPS - steps(p))


class _Words(np.random.bit_generator.ISeedSequence):
    """A seed from torch's generator as it is: numpy's own way mixes it by many small steps, which takes longer than
    drawing a small mask.
    """

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        drawn = torch.randint(-(2**63), 2**63 - 1, (n_words,)).numpy()
        return drawn.view(np.uint64).astype(dtype, copy=False)


class Masks:
    """A stream of masks for numbers of `dtype` that are dropped with probability `p`, 0 < p < 1.

    scale: `scale_of(p)`.
    """

    def __init__(self, p: float, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        self.dropped = steps(p)
        self.scale = scale_of(p)
        self.dtype = _INTEGERS[dtype.itemsize]
        self.device = torch.device(device)
        self._draw = np.random.SFC64(_Words())  # type: ignore[arg-type]  # numpy takes it, its types don't say so
        self._places = np.random.Generator(self._draw)

    def take(self, shape: Sequence[int]) -> Tensor:
        """The next mask of this shape: -1 where a number is kept, 0 where it is dropped."""
        if self.device.type != "cpu":
            kept = torch.rand(*shape, device=self.device) >= self.dropped / STEPS
            return kept.to(self.dtype).neg_()
        count = math.prod(shape)
        most = self.dropped // 256
        if most:
            drawn = torch.from_numpy(self._draw.random_raw(count // 8 + 1).view(np.int8))[:count]
            last = 127 - most  # of the 256 whole numbers from -128 on, those up to here are kept
            mask = drawn.clamp_(last, last + 1).sub_(last + 1).to(self.dtype)
        else:
            mask = torch.full((count,), -1, dtype=self.dtype)
        again = (self.dropped - 256 * most) / (STEPS - 256 * most)
        if again:
            hits = self._places.poisson(-count * math.log1p(-again))
            mask.numpy()[self._places.integers(count, size=hits)] = 0
        return mask.view(*shape)


def take(masks: Masks | None, shape: Sequence[int]) -> Tensor | None:
    """A mask, or None where nothing is dropped."""
    return None if masks is None else masks.take(shape)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` with what the mask drops set to zero, in new memory; `x` itself where there is no mask."""
    return x if mask is None else torch.bitwise_and(x.view(mask.dtype), mask).view(x.dtype)


def mask_(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x`, with what the mask drops set to zero in place."""
    if mask is not None:
        x.view(mask.dtype).bitwise_and_(mask)
    return x


class _Dropped(torch.autograd.Function):
    """y = scale * (x and mask); its gradient is dropped alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        masks = Masks(p, x.dtype)
        mask = masks.take(x.shape)
        ctx.save_for_backward(mask)
        ctx.scale = masks.scale
        return masked(x, mask).mul_(masks.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return masked(grad, mask).mul_(ctx.scale), None


def dropped(x: Tensor, p: float) -> Tensor:
    """Dropout of `x` with probability `p`, as while training: any shape, on the CPU, 0 < p < 1."""
    return cast(Tensor, _Dropped.apply(x, p))  # type: ignore[no-untyped-call]


class _Fast:
    """What a dropout module does instead of its own forward. It holds the module, so that a deep copy of the model
    holds the copy.
    """

    def __init__(self, module: nn.Dropout) -> None:
        self.module = module

    def __call__(self, input: Tensor) -> Tensor:
        module = self.module
        fast = module.training and 0 < module.p < 1 and input.device.type == "cpu" and input.is_floating_point()
        return dropped(input, module.p) if fast else nn.Dropout.forward(module, input)


@contextmanager
def fast_dropout(model: nn.Module) -> Iterator[int]:
    """Inside the block, the model's `nn.Dropout` modules draw their masks as here; yields how many do."""
    changed = [m for m in model.modules() if type(m) is nn.Dropout and not m.inplace and "forward" not in vars(m)]
    for module in changed:
        module.forward = _Fast(module)  # type: ignore[method-assign]
    try:
        yield len(changed)
    finally:
        for module in changed:
            vars(module).pop("forward", None)
