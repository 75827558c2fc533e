"""A random subspace: its directions, and the gradient within it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from tunesmith.core.errors import ModelError
from tunesmith.methods.subspace import SubspaceLinear, directions

MASK = 2**64 - 1


def mixed(i: int) -> int:
    """SplitMix64's output number i, from 1 on, of the seed 0, in whole numbers."""
    z = i * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def test_directions_are_splitmix() -> None:
    assert mixed(1) == 0xE220A8397B1DCDAF  # the generator's first output of the seed 0, in Vigna's reference code
    assert directions(0, 5, 7).tolist() == [mixed(i) % 14 for i in (1, 2, 3, 4, 5)]
    assert directions(3, 2, 7).tolist() == directions(0, 5, 7)[3:].tolist()


def projection(wrappers: list[SubspaceLinear]) -> torch.Tensor:
    """P as a matrix [D, d], from what each coordinate alone makes of the weights."""
    z = wrappers[0].z
    columns = []
    for number in range(len(z)):
        with torch.no_grad():
            z.zero_()
            z[number] = 1
            columns.append(torch.cat([one.change().flatten() for one in wrappers]))
    with torch.no_grad():
        z.zero_()
    return torch.stack(columns, dim=1)


def test_columns_are_orthogonal_and_of_one_length() -> None:
    z = nn.Parameter(torch.zeros(6))
    wrappers = [SubspaceLinear(nn.Linear(40, 60), z, 0, (6 / 4800) ** 0.5),
                SubspaceLinear(nn.Linear(60, 40), z, 2400, (6 / 4800) ** 0.5)]  # fmt: skip
    found = projection(wrappers)
    gram = found.T @ found
    assert torch.equal(gram, torch.diag(gram.diagonal()))
    # 800 weights a column on average, with a deviation of 26.
    assert gram.diagonal().tolist() == pytest.approx([1.0] * 6, abs=0.15)
    assert gram.trace().item() == pytest.approx(6, rel=1e-4)
    signs = np.sign(found[found != 0].numpy())
    assert abs(signs.mean()) < 0.06


def test_the_gradient_is_the_weights_projected() -> None:
    torch.manual_seed(0)
    plain, x, y = nn.Linear(5, 4), torch.randn(3, 5), torch.randn(3, 4)
    ((plain(x) - y) ** 2).sum().backward()
    base = nn.Linear(5, 4)
    base.load_state_dict(plain.state_dict())
    wrapper = SubspaceLinear(base, nn.Parameter(torch.zeros(3)), 10, 0.5)
    ((wrapper(x) - y) ** 2).sum().backward()
    assert wrapper.z.grad is not None and plain.weight.grad is not None
    expected = projection([wrapper]).T @ plain.weight.grad.flatten()
    assert torch.allclose(wrapper.z.grad, expected, atol=1e-5)


def test_all_places_share_one_z() -> None:
    toyed = toy.prepared({"method": {"name": "subspace", "dimension": 5}})
    found = [module for module in toyed.training.model.modules() if isinstance(module, SubspaceLinear)]
    assert len(found) > 6 and len({id(one.z) for one in found}) == 1
    with torch.no_grad():
        found[0].z.fill_(1)
    assert found[-1].change().abs().unique().tolist() == pytest.approx([toyed.recipe.method.scale])  # type: ignore[attr-defined]


def test_more_dimensions_than_weights_are_refused() -> None:
    with pytest.raises(ModelError, match=r"dimension 1,000,000 is more than the [\d,]+ weights that would move"):
        toy.prepared({"method": {"name": "subspace", "dimension": 1_000_000}})
