"""Device and precision: what the recipe says, or what the hardware does well.

The choice depends on what the hardware offers and not on a timing, so that the same recipe gives the same run.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from tunesmith.core.errors import RecipeError
from tunesmith.train.settings import TrainSettings

ACCELERATE_NAMES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


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
    """The precision: the one wanted, or the fastest that the device multiplies natively without losing range.

    auto gives bfloat16 on GPUs and processors with bfloat16 units (AVX512-BF16, AMX), float16 on older GPUs, else
    float32.
    """
    if wanted == "float16" and device == "cpu":
        raise RecipeError("train.precision: float16 can't be trained on a CPU.", hint="Use auto, bfloat16 or float32.")
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device == "cpu":
        able = torch.cpu.get_capabilities()
        return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"
    return "float32"


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
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Fresh memory needs no filling: nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return made
