"""Device and precision follow the recipe, then the hardware."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tunesmith.core.errors import RecipeError
from tunesmith.train import precision
from tunesmith.train.settings import TrainSettings


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, True, "cuda")]
)
def test_the_best_device_is_taken(cuda: bool, mps: bool, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert precision.choose_device("auto") == best
    assert precision.choose_device("cpu") == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, mps=True)
    with pytest.raises(RecipeError, match=r"this machine has no 'cuda'\. It has: mps, cpu"):
        precision.choose_device("cuda")


@pytest.mark.parametrize(
    ("device", "able", "expected"),
    [
        ("cuda", True, "bfloat16"),
        ("cuda", False, "float16"),
        ("mps", False, "float32"),
        ("cpu", True, "bfloat16"),
        ("cpu", False, "float32"),
    ],
)
def test_the_precision_that_the_hardware_does_natively(
    device: str, able: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return able or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able, "amx_bf16": False})
    assert precision.choose_precision("auto", device) == expected
    assert precision.choose_precision("float32", device) == "float32"


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"float16 can't be trained on a CPU(.|\n)*bfloat16 or float32"):
        precision.choose_precision("float16", "cpu")


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**_: Any) -> Any:
        return SimpleNamespace(num_processes=2)

    monkeypatch.setattr(precision, "Accelerator", made)
    with pytest.raises(RecipeError, match="started in 2 processes"):
        precision.accelerator(TrainSettings(device="cpu", precision="float32"))


@pytest.mark.parametrize(("kind", "mixed"), [("float32", "no"), ("bfloat16", "bf16")])
def test_the_accelerator_has_the_precision_and_deterministic_kernels(kind: Any, mixed: str) -> None:
    made = precision.accelerator(TrainSettings(device="cpu", precision=kind))
    assert (made.mixed_precision, made.device.type) == (mixed, "cpu")
    assert torch.are_deterministic_algorithms_enabled()
