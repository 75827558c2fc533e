"""Device and precision follow the recipe, then the hardware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

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


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    precision.speedup.cache_clear()
    yield
    precision.speedup.cache_clear()


@pytest.mark.parametrize(
    ("device", "native", "gain", "expected"),
    [
        ("cuda", True, 1.2, "bfloat16"),
        ("cuda", True, 1.1, "float32"),
        ("cuda", False, 8.0, "float16"),
        ("cuda", False, 0.5, "float32"),
        ("mps", False, 8.0, "float32"),
        ("cpu", False, 1.2, "bfloat16"),
        ("cpu", False, 1.19, "float32"),
        ("cpu", True, 0.1, "float32"),
    ],
)
def test_the_precision_is_the_one_that_is_measured_fast(
    device: str, native: bool, gain: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(precision, "speedup", lambda kind, device: gain)
    assert precision.choose_precision("auto", device) == expected
    assert precision.choose_precision("float32", device) == "float32"


def timed(monkeypatch: pytest.MonkeyPatch, usual: Sequence[float], other: Sequence[float]) -> list[torch.dtype]:
    """Let products take these seconds, the first of each kind left out; returns what is multiplied."""
    waiting = {torch.float32: iter([9.0, *usual]), torch.bfloat16: iter([99.0, *other])}
    asked: list[torch.dtype] = []

    def seconds(inputs: Tensor, weight: Tensor) -> float:
        assert inputs.dtype == weight.dtype and inputs.shape[1] == weight.shape[1]
        asked.append(inputs.dtype)
        return next(waiting[inputs.dtype])

    monkeypatch.setattr(precision, "_seconds", seconds)
    return asked


def test_the_gain_is_the_median_over_pairs_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pairs 2, 2, 3, 1, 10, 2, 1: the median is 2, though one product was disturbed.
    asked = timed(monkeypatch, [2, 4, 3, 2, 10, 6, 1], [1, 2, 1, 2, 1, 3, 1])
    monkeypatch.setattr(precision, "BUDGET", 60.0)
    assert precision.speedup("bfloat16", "cpu") == 2.0
    assert asked == [torch.float32, torch.bfloat16] * (precision.ROUNDS + 1)
    # Once a process: the products have no more times to give.
    assert precision.speedup("bfloat16", "cpu") == 2.0


def test_slow_products_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed(monkeypatch, [1.0], [50.0])
    monkeypatch.setattr(precision, "BUDGET", 0.0)
    assert precision.speedup("bfloat16", "cpu") == 0.02
    assert len(asked) == 4


def test_the_rate_counts_two_operations_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, [0.5], [])
    # [768, 384] times [384, 1536] in half a second.
    assert precision.matrix_rate("float32", "cpu", seconds=0.0) == 2 * 768 * 384 * 1536 / 0.5


def test_a_real_measurement_gives_a_rate_and_draws_no_random_number() -> None:
    state = torch.get_rng_state()
    assert 1e6 < precision.matrix_rate("float32", "cpu", seconds=0.0) < 1e16
    assert 1e-4 < precision.speedup("bfloat16", "cpu") < 1e4
    assert torch.equal(torch.get_rng_state(), state)


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


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_prepared_model_is_as_before_once_it_is_uncast(kind: str) -> None:
    model = torch.nn.Linear(3, 2)
    inputs = torch.randn(4, 3)
    before = model(inputs)
    prepared = precision.accelerator(TrainSettings(device="cpu", precision=kind)).prepare(model)
    assert (prepared(inputs) - before).abs().max() <= 0.02
    precision.uncast(prepared)
    assert "forward" not in vars(model)
    assert torch.equal(model(inputs), before)


def test_what_stood_in_for_a_forward_pass_stands_there_again() -> None:
    model = torch.nn.Linear(3, 2)

    def doubled(inputs: Tensor) -> Tensor:
        return 2 * torch.nn.Linear.forward(model, inputs)

    model.forward = doubled  # type: ignore[method-assign]
    prepared = precision.accelerator(TrainSettings(device="cpu", precision="bfloat16")).prepare(model)
    assert vars(prepared)["forward"] is not doubled
    precision.uncast(prepared)
    assert vars(model)["forward"] is doubled
