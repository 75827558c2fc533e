"""Modules: replaced, frozen, switched off, merged, counted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import toy
from tunesmith.core import surgery


class Doubled(surgery.Wrapper):
    """Gives twice what its base gives."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base(x)
        return 2 * found if self.active else found

    def merged(self) -> nn.Module:
        plain = nn.Linear(self.weight.shape[1], self.weight.shape[0])
        plain.weight.data = 2 * self.weight
        assert self.bias is not None
        plain.bias.data = 2 * self.bias
        return plain


def model() -> nn.Sequential:
    torch.manual_seed(0)  # a draw in which the last layer's outputs are not all cut off
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2), nn.ReLU()))


def test_a_module_is_replaced_at_any_depth() -> None:
    made = model()
    inner, outer = nn.Linear(3, 5), nn.Linear(3, 3)
    surgery.replace(made, "1.0", inner)
    surgery.replace(made, "0", outer)
    assert made[1][0] is inner and made[0] is outer


def test_a_wrapper_shows_the_weights_of_its_base() -> None:
    base = nn.Linear(3, 2)
    wrapper = Doubled(base)
    assert wrapper.weight is base.weight and wrapper.bias is base.bias
    assert [name for name, _ in wrapper.named_parameters()] == ["base.weight", "base.bias"]


def test_wrappers_are_found_and_merged_by_their_path() -> None:
    made, x = model(), torch.randn(4, 3)
    surgery.replace(made, "1.0", Doubled(made[1][0]))
    assert list(surgery.wrappers(made)) == ["1.0"]
    attached = made(x)
    surgery.merge(made)
    assert not surgery.wrappers(made) and type(made[1][0]) is nn.Linear
    assert torch.allclose(made(x), attached)


def test_switched_off_every_wrapper_is_its_base() -> None:
    made, x = model(), torch.randn(4, 3)
    before = made(x)
    for path in ("0", "1.0"):
        surgery.replace(made, path, Doubled(made.get_submodule(path)))
    made[0].active = False
    attached = made(x)
    with pytest.raises(KeyError), surgery.switched_off(made):
        assert torch.equal(made(x), before)
        raise KeyError
    # Each is again as it was: one was off before.
    assert torch.equal(made(x), attached) and not torch.equal(attached, before)
    assert (made[0].active, made[1][0].active) == (False, True)


def test_freezing_and_thawing() -> None:
    made = model()
    surgery.freeze(made)
    assert surgery.trained(made) == {}
    surgery.thaw(made[1])
    assert list(surgery.trained(made)) == ["1.0.weight", "1.0.bias"]


def test_parameters_are_counted_tied_ones_once() -> None:
    made = nn.ModuleDict({"a": nn.Linear(3, 4, bias=False), "b": nn.Linear(3, 4, bias=False), "c": nn.Linear(4, 2)})
    assert surgery.count(made) == (12 + 12 + 10, 34)
    made["b"].weight = made["a"].weight
    surgery.freeze(made["c"])
    assert surgery.count(made) == (12, 22)


def test_a_wrapper_must_say_how_it_is_merged() -> None:
    with pytest.raises(NotImplementedError):
        surgery.Wrapper(nn.Linear(1, 1)).merged()


class Shifted(surgery.Inserted):
    """Doubles what its host gets, and adds its own number to what the host gives."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(3.0))

    def before(self, host: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        return {name: 2 * value for name, value in arguments.items()}

    def after(self, host: nn.Module, arguments: dict[str, Any], output: Tensor) -> Tensor:
        assert list(arguments) == ["input"]
        return output + self.shift


def test_what_is_inserted_acts_on_its_host_by_the_names_of_arguments() -> None:
    host, x = nn.Linear(3, 2), torch.randn(4, 3)
    before = host(x)
    surgery.insert(host, "shifted", Shifted())
    assert list(surgery.inserted(host)) == ["shifted"] and "shifted.shift" in surgery.trained(host)
    expected = nn.functional.linear(2 * x, host.weight, host.bias) + 3
    assert torch.equal(host(x), expected) and torch.equal(host(input=x), expected)
    with surgery.switched_off(host):
        assert torch.equal(host(x), before)
    # A copy has a module of its own.
    copied = copy.deepcopy(host)
    with torch.no_grad():
        copied.shifted.shift.fill_(0.0)
    assert torch.equal(host(x), expected) and torch.allclose(copied(x), expected - 3, atol=1e-6)


def test_a_module_that_stands_in_several_places_is_replaced_in_all() -> None:
    shared = nn.Linear(2, 2)
    made = nn.ModuleDict({"first": shared, "second": nn.Sequential(shared)})
    wrapper = Doubled(shared)
    surgery.replace(made, "first", wrapper)
    assert made["first"] is wrapper and made["second"][0] is wrapper and wrapper.base is shared


def test_modules_are_taken_out_at_any_depth_and_put_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    before = dict(model.named_modules())
    with surgery.taken_out(model, ["0", "1.0"]):
        assert list(dict(model.named_modules())) == ["", "1", "1.1"]
    assert dict(model.named_modules()) == before
    with pytest.raises(KeyError), surgery.taken_out(model, ["1.1"]):
        raise KeyError
    assert dict(model.named_modules()) == before


def test_only_the_head_trains_in_a_frozen_backbone() -> None:
    made = toy.prepared({}).training.model
    surgery.freeze_backbone(made)
    assert set(surgery.trained(made)) == {"classifier.weight", "classifier.bias"}
