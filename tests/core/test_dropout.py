"""Masks of 8 bits an element, and the modules that use them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from tunesmith.core.dropout import Masks, dropped, fast_dropout, mask_, masked


def kept(p: float, count: int = 200_000) -> torch.Tensor:
    torch.manual_seed(0)
    return Masks(p, torch.float32).take([count]) == -1


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p(p: float) -> None:
    # The standard error of a share of 200,000 draws is at most 0.0011.
    assert (~kept(p)).float().mean().item() == pytest.approx(p, abs=0.005)


@pytest.mark.parametrize("p", [0.0005, 0.002, 0.1, 0.1015, 0.5])
def test_the_share_is_exact_beyond_eight_bits(p: float) -> None:
    # 8 bits alone would give 0, 0, 0.0977, 0.0977 and 0.5. Six standard errors of 20 million draws.
    found = (~kept(p, 20_000_000)).double().mean().item()
    assert found == pytest.approx(round(p * 65536) / 65536, abs=6 * (p * (1 - p) / 20_000_000) ** 0.5)


@pytest.mark.parametrize("p", [0.002, 0.1])
def test_numbers_are_dropped_independently_of_each_other(p: float) -> None:
    # Of 4 million blocks of 4 numbers, those with k dropped, by the binomial distribution: six standard errors.
    blocks = (~kept(p, 16_000_000)).view(-1, 4).sum(1).bincount(minlength=5).double() / 4_000_000
    for count in range(5):
        share = math.comb(4, count) * p**count * (1 - p) ** (4 - count)
        assert blocks[count].item() == pytest.approx(share, abs=6 * (share / 4_000_000) ** 0.5 + 1e-4 * share)


@pytest.mark.parametrize(("p", "shape"), [(0.1, [0]), (1e-4, [3, 0]), (0.1, [1]), (1e-4, [1])])
def test_masks_of_no_and_of_one_number(p: float, shape: list[int]) -> None:
    mask = Masks(p, torch.bfloat16).take(shape)
    assert mask.shape == torch.Size(shape) and mask.dtype == torch.int16


@pytest.mark.parametrize(("p", "steps"), [(0.1, 6554), (1e-9, 1), (1 - 1e-9, 65535)])
def test_the_scale_makes_up_for_exactly_what_is_dropped(p: float, steps: int) -> None:
    masks = Masks(p, torch.float32)
    assert masks.dropped == steps  # p * 65536, rounded, and neither nothing nor everything
    assert masks.scale * (1 - steps / 65536) == pytest.approx(1, abs=1e-12)


def test_neighbours_are_dropped_independently() -> None:
    drawn = kept(0.5)
    assert (drawn[1:] == drawn[:-1]).float().mean().item() == pytest.approx(0.5, abs=0.005)
    assert (drawn[4:] == drawn[:-4]).float().mean().item() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_mask_keeps_or_clears_every_bit(dtype: torch.dtype) -> None:
    x = torch.randn(40, 5).to(dtype)
    x[0, 0], x[0, 1] = torch.nan, -torch.inf
    mask = Masks(0.5, dtype).take(x.shape)
    assert mask.unique().tolist() == [-1, 0]
    expected = torch.where(mask == -1, x, torch.zeros((), dtype=dtype))
    assert torch.equal(masked(x, mask).nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(mask_(x.clone(), mask).nan_to_num(7), expected.nan_to_num(7))
    assert masked(x, None) is x and mask_(x, None) is x


def test_one_stream_gives_different_masks_of_any_shape() -> None:
    masks = Masks(0.5, torch.float32)
    first, second = masks.take([3, 7, 11]), masks.take([3, 7, 11])
    assert first.shape == (3, 7, 11) and not torch.equal(first, second)


def test_the_state_of_torch_repeats_the_masks() -> None:
    state = torch.get_rng_state()
    first = Masks(0.5, torch.float32).take([64])
    other = Masks(0.5, torch.float32).take([64])
    torch.set_rng_state(state)
    assert torch.equal(Masks(0.5, torch.float32).take([64]), first) and not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dropout_drops_and_scales_values_and_gradients_alike(dtype: torch.dtype) -> None:
    x = (torch.rand(50, 40) + 1).to(dtype).requires_grad_()
    y = dropped(x, 0.25)
    y.backward(torch.full_like(y, 2))
    assert x.grad is not None
    there = y != 0
    assert 0.6 < there.float().mean() < 0.9
    expected = torch.where(there, x.detach() / 0.75, torch.zeros((), dtype=dtype))
    assert torch.allclose(y, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6)
    assert torch.equal(x.grad != 0, there) and torch.allclose(x.grad[there].float(), torch.tensor(2 / 0.75), rtol=1e-2)


def test_dropout_takes_a_transposed_view() -> None:
    x = torch.rand(6, 50).T + 1
    y = dropped(x, 0.5)
    assert torch.equal(y[y != 0], (x * 2)[y != 0]) and 0 < (y == 0).sum() < 300


class TestModules:
    def model(self, p: float = 0.5) -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 8), nn.Dropout(p), nn.Sequential(nn.Dropout(p)))

    def test_every_dropout_is_fast_inside_and_its_own_again_outside(self) -> None:
        model = self.model()
        names = list(model.state_dict())
        with fast_dropout(model) as count:
            assert count == 2 and all("forward" in vars(m) for m in (model[1], model[2][0]))
            assert list(model.state_dict()) == names
        assert not any("forward" in vars(m) for m in model.modules())

    def test_nothing_is_dropped_while_evaluating(self) -> None:
        model, x = self.model().eval(), torch.randn(4, 8)
        with fast_dropout(model):
            assert torch.equal(model(x), model[0](x))

    @pytest.mark.parametrize(("p", "left"), [(0.0, True), (1.0, False)])
    def test_nothing_and_everything_can_be_dropped(self, p: float, left: bool) -> None:
        model, x = nn.Sequential(nn.Dropout(p)).train(), torch.ones(4, 8)
        with fast_dropout(model):
            assert torch.equal(model(x), x if left else torch.zeros_like(x))

    def test_training_drops(self) -> None:
        model, x = nn.Sequential(nn.Dropout(0.5)), torch.ones(400, 8)
        with fast_dropout(model):
            assert (model(x) == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
            assert set(model(x).unique().tolist()) == {0.0, 2.0}

    def test_a_copy_made_inside_follows_its_own_mode(self) -> None:
        model, x = nn.Sequential(nn.Dropout(0.5)), torch.ones(40, 8)
        with fast_dropout(model):
            other = copy.deepcopy(model).eval()
            assert torch.equal(other(x), x) and not torch.equal(model(x), x)

    def test_a_module_that_works_in_place_or_is_replaced_already_is_left(self) -> None:
        model = nn.Sequential(nn.Dropout(0.5, inplace=True))
        with fast_dropout(model) as count, fast_dropout(model) as again:
            assert count == again == 0
        with fast_dropout(self.model()) as count:
            assert count == 2
