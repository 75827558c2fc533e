"""What a forward pass puts on a tape, and the gradients that come of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunesmith.train.fused.tape import Gradients, Tape, run


class Times:
    """y = x * w, by hand."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    @property
    def trained(self) -> Sequence[Tensor]:
        return [self.weight] if self.weight.requires_grad else []

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        tape.push(x)
        return x * self.weight

    def backward(self, grad: Tensor, tape: Tape, gradients: Gradients, wanted: bool) -> Tensor | None:
        x = tape.pop()
        assert x is not None
        gradients.give(self.weight, grad * x)
        return grad * self.weight if wanted else None


def test_a_tape_gives_back_the_last_first() -> None:
    one, two, three = torch.ones(1), None, torch.zeros(1)
    tape = Tape()
    tape.push(one, two)
    tape.push(three)
    assert tape.pop() is three and tape.take(0) == [] and tape.take(2) == [one, two] and tape.tensors == []


def test_a_tape_that_keeps_nothing_is_empty() -> None:
    tape = Tape(keep=False)
    tape.push(torch.ones(1))
    assert tape.tensors == []


def test_gradients_of_one_parameter_add_up_in_its_type() -> None:
    weight, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    gradients = Gradients()
    for _ in range(2):
        gradients.give(weight, torch.ones(2, dtype=torch.bfloat16))
        gradients.give(frozen, torch.ones(2))
    found = gradients.of(weight)
    assert found is not None and found.dtype == torch.float32 and found.tolist() == [2, 2]
    assert gradients.of(frozen) is None


@pytest.mark.parametrize("again", [False, True], ids=["plain", "checkpointed"])
def test_gradients_are_those_of_the_product(again: bool) -> None:
    x, work = torch.randn(3, requires_grad=True), Times(nn.Parameter(torch.randn(3)))
    y = checkpoint(lambda given: run(work, given), x, use_reentrant=False) if again else run(work, x)
    y.sum().backward()
    assert torch.equal(x.grad, work.weight.detach()) and torch.equal(work.weight.grad, x.detach())


def test_nothing_is_kept_where_nothing_wants_a_gradient() -> None:
    work = Times(torch.ones(3))
    assert run(work, torch.ones(3)).grad_fn is None
    with torch.no_grad():
        assert run(Times(nn.Parameter(torch.ones(3))), torch.ones(3)).grad_fn is None
