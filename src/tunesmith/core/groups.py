"""The groups of an optimizer: which parameters it moves, and at what rate.

A group carries, beside torch's own entries, the `names` of its parameters, its `peak`, the rate at the top of the
schedule, and the `shares` of that rate which parts have set:

    rate = peak * factor of the schedule * product of the shares
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping

import torch
from torch import nn


def scale(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to `factor` times its peak, times its shares."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor * math.prod(group.get("shares", {}).values())


def split(optimizer: torch.optim.Optimizer, key: Callable[[str], Hashable]) -> None:
    """Let parameters of one group have the same key: a group whose parameters differ becomes several, in the order in
    which the keys are met. No parameter's state moves.
    """
    groups = []
    for group in optimizer.param_groups:
        there = dict(zip(group["names"], group["params"], strict=True))
        parts: dict[Hashable, list[str]] = {}
        for name in group.get("home", group["names"]):
            parts.setdefault(key(name), []).append(name)
        for home in parts.values():
            names = [name for name in home if name in there]
            groups.append({**group, "home": home, "names": names, "params": [there[name] for name in names]})
    optimizer.param_groups[:] = groups


def share(optimizer: torch.optim.Optimizer, by: str, factors: Mapping[str, float]) -> None:
    """Set the share of the rate that the part `by` leaves to each parameter, by name; 1 for those not named. It holds
    from the next `scale` on. All parameters of a group must have the same: `split` sees to that.
    """
    for group in optimizer.param_groups:
        # One that is frozen as a whole has its share when it opens.
        first = group.get("home", group["names"])[0]
        group["shares"] = {**group.get("shares", {}), by: factors.get(first, 1.0)}


def take_out(optimizer: torch.optim.Optimizer, names: Collection[str]) -> None:
    """Let the optimizer move these parameters no more, and forget their state. Each group remembers, as `home`, who
    was in it and where.
    """
    for group in optimizer.param_groups:
        group.setdefault("home", list(group["names"]))
        pairs = list(zip(group["names"], group["params"], strict=True))
        for name, parameter in pairs:
            if name in names:
                optimizer.state.pop(parameter, None)
        group["names"] = [name for name, _ in pairs if name not in names]
        group["params"] = [parameter for name, parameter in pairs if name not in names]


def put_back(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
    """Let the optimizer move these again, with a fresh state, each in its place of the group it was taken out of. What
    moves already keeps its state.
    """
    for group in optimizer.param_groups:
        home = group.get("home", group["names"])
        there = dict(zip(group["names"], group["params"], strict=True))
        there |= {name: parameters[name] for name in home if name in parameters}
        group["names"] = [name for name in home if name in there]
        group["params"] = [there[name] for name in group["names"]]
