"""Whether a block as one function gives what its own forward gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.core.layout import Layout
from tunesmith.train.fused import check
from tunesmith.train.fused.tape import Gradients, Tape


class Scaled(nn.Module):
    """A block that multiplies each number: y = x * w."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor, attention_mask: Any = None) -> Tensor:
        return x * self.weight


@dataclass
class Work:
    """The same by hand, with faults to choose: what the output and the two gradients are multiplied by."""

    weight: Tensor
    places: Tensor | None
    faults: tuple[float, float, float]

    @property
    def trained(self) -> Sequence[Tensor]:
        return [self.weight]

    def forward(self, x: Tensor, tape: Tape) -> Tensor:
        x = x if self.places is None else x.index_select(1, self.places)
        self.total = x.shape
        tape.push(x)
        return x * self.weight * self.faults[0]

    def backward(self, grad: Tensor, tape: Tape, gradients: Gradients, wanted: bool) -> Tensor | None:
        (x,) = tape.take(1)
        gradients.give(self.weight, (grad * x).sum((0, 1)) * self.faults[1])
        dx = grad * self.weight * self.faults[2]
        if self.places is None:
            return dx
        return torch.zeros(1, 32, 4).index_copy_(1, self.places, dx)


class Family:
    """What `differs` asks of a family."""

    width, turned = 4, 0

    def __init__(self, block: nn.Module, whole: tuple[float, ...], read: tuple[float, ...]) -> None:
        self.block, self.whole, self.read = block, whole, read

    def work(self, x: Tensor, layout: Layout, one: bool, positions: Any = ()) -> Any:
        return Work(self.block.weight, layout.read if one else None, self.read if one else self.whole)  # type: ignore[arg-type]


def family(whole: tuple[float, ...] = (1, 1, 1), read: tuple[float, ...] = (1, 1, 1)) -> Callable[[nn.Module], Family]:
    return lambda block: Family(block, whole, read)


def test_equal_numbers_agree() -> None:
    assert check.differs(Scaled(), family()) == ""


FAULTS = {
    (1.01, 1, 1): "output",
    (1, 1.01, 1): "gradient of weight",
    (1, 1, 1.01): "gradient of its input",
    (float("nan"), 1, 1): "output",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_any_difference_is_said(fault: tuple[float, ...]) -> None:
    what = FAULTS[fault]
    assert (
        check.differs(Scaled(), family(fault)) == f"As one function Scaled gives another {what} than its own forward."
    )
    said = check.differs(Scaled(), family(read=fault))
    assert said == f"As one function Scaled gives another {what} of the tokens that are read than its own forward."


def test_what_can_not_run_is_said() -> None:
    class Refusing(Family):
        def work(self, x: Tensor, layout: Layout, one: bool, positions: Any = ()) -> Any:
            return "a reason"

    said = check.differs(Scaled(), lambda block: Refusing(block, (1, 1, 1), (1, 1, 1)))
    assert said == "Scaled could not be compared with itself as one function: a reason"


def test_the_block_is_not_touched() -> None:
    block = Scaled()
    block.weight.requires_grad_(False)
    block.register_forward_hook(lambda *_: pytest.fail("a hook was called"))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert check.differs(block, family()) == ""
    assert torch.equal(torch.get_rng_state(), state)
    assert block.weight.grad is None and not block.weight.requires_grad and block.weight.tolist() == [1, 1, 1, 1]


def test_blocks_are_of_one_kind_where_only_their_weights_differ() -> None:
    one, other = nn.LayerNorm(4), nn.LayerNorm(4)
    nn.init.normal_(other.weight)
    assert check.kind(one) == check.kind(other)
    assert check.kind(one) != check.kind(nn.LayerNorm(5)) and check.kind(one) != check.kind(nn.LayerNorm(4, eps=1e-3))


def test_blocks_that_hold_other_values_are_of_another_kind() -> None:
    # What SmolLM3's blocks differ by: whether they turn by position is one value, beside the number of the block.
    one, other = Scaled(), Scaled()
    one.layer_idx, other.layer_idx = 0, 1
    other.eval()
    assert check.kind(one) == check.kind(other)
    other.use_rope = True
    assert check.kind(one) != check.kind(other)
