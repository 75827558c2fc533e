"""Device and precision: what the recipe says, or what the hardware does fast.

`auto` is settled by a short measurement when a run starts. The choice is written into the run's recipe, so that a
resume keeps it.
"""

from __future__ import annotations

import time
from functools import cache
from statistics import median

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.core.errors import RecipeError
from tunesmith.train.settings import TrainSettings

ACCELERATE_NAMES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
GAIN = 1.2
"""How many times as fast products in half the bits must be: casting takes some of it back."""
SHAPES = {"cpu": (768, 384, 1536), "cuda": (4096, 2048, 4096)}
"""Tokens, and numbers in and out, of the product that is measured: a block's; on a GPU, one that fills it."""
ROUNDS, BUDGET = 7, 0.04
"""Most pairs of products, and the seconds after which no further pair begins."""


def choose_device(wanted: str) -> str:
    """The device: the one wanted, or the best there is. One that is not there raises RecipeError."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there[wanted]:
        present = [name for name, found in there.items() if found]
        raise RecipeError(f"train.device: this machine has no '{wanted}'. It has: {', '.join(present)}.")
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """The precision: the one wanted, or bfloat16 where matrix products are measured at least GAIN times as fast in it.

    On GPUs without bfloat16 units it is float16, by the same measure; its losses are scaled. Elsewhere float32.
    """
    if wanted == "float16" and device == "cpu":
        raise RecipeError("train.precision: float16 can't be trained on a CPU.", hint="Use auto, bfloat16 or float32.")
    if wanted != "auto":
        return wanted
    if device not in SHAPES:
        return "float32"
    native = device == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    kind = "bfloat16" if native else "float16"
    return kind if speedup(kind, device) >= GAIN else "float32"


@cache
def speedup(kind: str, device: str) -> float:
    """How many times as fast as in float32 a matrix product is in `kind`: the median over pairs, one after the other,
    so that whatever else the machine does meets both alike. Measured once a process.
    """
    usual, other = _operands("float32", device), _operands(kind, device)
    # The first product of a kind prepares the kernel.
    _seconds(*usual), _seconds(*other)
    start = time.perf_counter()
    ratios: list[float] = []
    while len(ratios) < ROUNDS and (not ratios or time.perf_counter() - start < BUDGET):
        ratios.append(_seconds(*usual) / _seconds(*other))
    return median(ratios)


def matrix_rate(kind: str, device: str, seconds: float = 0.5) -> float:
    """Floating-point operations a second of matrix products in `kind`: 2 * tokens * in * out a product, over the median
    time of the products that fit into so many seconds.
    """
    tokens, into, out = SHAPES[device]
    operands = _operands(kind, device)
    _seconds(*operands)
    start = time.perf_counter()
    times: list[float] = []
    while not times or time.perf_counter() - start < seconds:
        times.append(_seconds(*operands))
    return 2.0 * tokens * into * out / median(times)


def _operands(kind: str, device: str) -> tuple[Tensor, Tensor]:
    """Ones [tokens, in] and [out, in]: no random number is drawn, since a run's start hangs on those."""
    tokens, into, out = SHAPES[device]
    dtype = getattr(torch, kind)
    return torch.ones(tokens, into, dtype=dtype, device=device), torch.ones(out, into, dtype=dtype, device=device)


@torch.inference_mode()
def _seconds(inputs: Tensor, weight: Tensor) -> float:
    """The seconds that one product takes."""
    if inputs.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    functional.linear(inputs, weight)
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def accelerator(settings: TrainSettings) -> Accelerator:
    """An accelerator for one process, with deterministic kernels. Several processes raise RecipeError."""
    # accelerate keeps one state a process, and refuses another precision or device than its first.
    AcceleratorState._reset_state(reset_partial_state=True)
    made = Accelerator(mixed_precision=ACCELERATE_NAMES[settings.precision], cpu=settings.device == "cpu")
    if made.num_processes > 1:
        raise RecipeError(
            f"This run was started in {made.num_processes} processes; training works in one.",
            hint="Start it with `tunesmith train`, without `accelerate launch` or torchrun.",
        )
    # The same as use_deterministic_algorithms(True, warn_only=True), which loads torch's compiler to tell it too.
    torch.set_deterministic_debug_mode("warn")
    # Fresh memory needs no filling: nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return made


def uncast(model: nn.Module) -> None:
    """Take off again what lets the forward pass of a prepared model run in the chosen precision.

    Accelerate's own `unwrap_model` does so too, and imports torch's compiler first, which takes a second.
    """
    original = vars(model).pop("_original_forward", None)
    if original is None:
        return
    del model.forward
    if getattr(original, "__func__", None) is not type(model).forward:
        model.forward = original  # what stood in for the model's own before
