"""Tensors without memory: what is made of them is what torch makes of them."""

import pytest
import torch
from torch import nn

from tunesmith.models import hollow


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_takes_the_place_of_a_hollow_tensor(dtype: torch.dtype) -> None:
    given = torch.empty(3, 5, dtype=dtype, device="meta")
    expected = torch.empty_like(given, device="cpu")
    with hollow.quick():
        found = torch.empty_like(given, device="cpu")
        turned = torch.empty_like(given.T, device="cpu")
    assert (found.shape, found.dtype, found.device, found.stride()) == (
        expected.shape, expected.dtype, expected.device, expected.stride(),
    )  # fmt: skip
    assert turned.stride() == torch.empty_like(given.T, device="cpu").stride()


def test_tensors_with_memory_are_filled_and_copied_as_ever() -> None:
    torch.manual_seed(0)
    expected = nn.init.normal_(torch.empty(4, 4), std=0.1)
    torch.manual_seed(0)
    with hollow.quick():
        assert torch.equal(nn.init.normal_(torch.empty(4, 4), std=0.1), expected)
        assert torch.empty_like(expected.T, dtype=torch.float64).stride() == (1, 4)
        assert nn.Embedding(5, 3, device="meta").weight.is_meta


def test_outside_torch_is_itself() -> None:
    before = nn.init.normal_, torch.empty_like
    with pytest.raises(ValueError, match="inside"), hollow.quick():
        assert nn.init.normal_ is not before[0]
        raise ValueError("inside")
    assert (nn.init.normal_, torch.empty_like) == before
