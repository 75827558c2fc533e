"""Memory between steps: kept where glibc is, given back at the end; offloaded without a change of the gradients."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from tunesmith.core.errors import RecipeError
from tunesmith.train import memory

COUNT = """
import resource
import torch
from tunesmith.train.memory import keep_memory

def faults():
    # The first blocks find their place: an aligned block needs a little more than one that was freed.
    for _ in range(20):
        torch.ones(20 * 2**20)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(20 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

usual = faults()
with keep_memory() as reason:
    print(usual, faults(), repr(reason))
"""


@pytest.mark.skipif(memory._glibc() is None, reason="needs glibc")
def test_freed_blocks_are_used_again_without_faults() -> None:
    # In a process of its own, whose heap nobody has grown before.
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=120, check=True)
    usual, kept, reason = done.stdout.split()
    # A fault a page of at most 2 MB, in each of five blocks of 80 MB; and none where the block is still there.
    assert int(usual) >= 200
    assert int(kept) < int(usual) / 10
    assert reason == "''"


def test_another_c_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    with memory.keep_memory() as reason:
        assert reason == "the C library is not glibc on Linux"


def test_offload_on_a_cpu_is_refused() -> None:
    with (
        pytest.raises(RecipeError, match=r"speed\.offload: on a CPU(.|\n)*Leave it out"),
        memory.offloaded(nn.Linear(2, 2), "cpu"),
    ):
        pass


def test_offloaded_gradients_are_the_same_and_weights_stay() -> None:
    # The hooks run on any device; what they copy on a CPU is a copy on the CPU.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 3))
    inputs = torch.randn(70, 64)
    model(inputs).sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    places, packed = memory._places(model), []

    def pack(tensor: torch.Tensor) -> tuple[torch.device, torch.Tensor]:
        device, kept = memory._pack(places, tensor)
        packed.append((tensor, kept))
        return device, kept

    with torch.autograd.graph.saved_tensors_hooks(pack, memory._unpack):
        model(inputs).sum().backward()
    for gradient, parameter in zip(expected, model.parameters(), strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, gradient)
    moved = {tuple(tensor.shape) for tensor, kept in packed if tensor is not kept}
    stayed = {tuple(tensor.shape) for tensor, kept in packed if tensor is kept}
    assert moved == {(70, 64), (70, 128)}
    assert all((shape[-1], shape[0]) in ((128, 3), (3, 128)) for shape in stayed) and stayed


def test_offload_surrounds_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = nn.Linear(64, 64), []
    monkeypatch.setattr(memory, "_pack", lambda places, tensor: seen.append(tensor.shape) or (tensor.device, tensor))
    with memory.offloaded(model, "cuda"):
        loss = model(torch.randn(70, 64)).sum()
    loss.backward()
    assert seen and model.weight.grad is not None
