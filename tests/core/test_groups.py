"""The groups of an optimizer: split, scaled, taken out of and put back into."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tunesmith.core import groups


def optimizer() -> tuple[torch.optim.Optimizer, dict[str, nn.Parameter]]:
    named = {name: nn.Parameter(torch.ones(2)) for name in ("a", "b", "c", "d")}
    made: list[dict[str, Any]] = [
        {"names": list(names), "params": [named[name] for name in names], "peak": peak, "weight_decay": decay}
        for names, peak, decay in (("abc", 1.0, 0.1), ("d", 2.0, 0.0))
    ]
    return torch.optim.AdamW(made, lr=1.0), named


def test_rates_are_peak_times_factor_times_shares() -> None:
    made, _ = optimizer()
    groups.split(made, lambda name: name == "b")
    groups.share(made, "one", {"b": 0.5})
    groups.share(made, "two", {"b": 0.1, "d": 3.0})
    groups.scale(made, 0.5)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.5, 0.5 * 0.5 * 0.1, 2 * 0.5 * 3])


def test_a_split_keeps_settings_and_state() -> None:
    made, named = optimizer()
    named["b"].grad = torch.ones(2)
    made.step()
    state = made.state[named["b"]]
    groups.split(made, lambda name: name == "b")
    assert [group["names"] for group in made.param_groups] == [["a", "c"], ["b"], ["d"]]
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.1, 0.0]
    assert made.state[named["b"]] is state


def test_what_is_put_back_has_its_place_and_a_fresh_state() -> None:
    made, named = optimizer()
    for parameter in named.values():
        parameter.grad = torch.ones(2)
    made.step()
    kept = made.state[named["c"]]
    groups.take_out(made, ["a", "b", "d"])
    assert [group["names"] for group in made.param_groups] == [["c"], []]
    assert set(made.state) == {named["c"]}
    groups.put_back(made, {"b": named["b"]})
    assert [group["names"] for group in made.param_groups] == [["b", "c"], []]
    groups.put_back(made, {"a": named["a"], "d": named["d"]})
    assert [group["names"] for group in made.param_groups] == [["a", "b", "c"], ["d"]]
    assert [group["params"] for group in made.param_groups] == [[named[name] for name in "abc"], [named["d"]]]
    assert set(made.state) == {named["c"]} and made.state[named["c"]] is kept


def test_a_split_knows_who_was_taken_out() -> None:
    made, named = optimizer()
    groups.take_out(made, ["a", "b"])
    groups.split(made, lambda name: name == "b")
    groups.share(made, "one", {"b": 0.5})
    groups.put_back(made, named)
    groups.scale(made, 1.0)
    assert [(group["names"], group["lr"]) for group in made.param_groups] == [(["a", "c"], 1), (["b"], 0.5), (["d"], 2)]
