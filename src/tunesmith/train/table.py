"""A weight of which batches look up rows, and of which only the rows that some batch held have gradient and moments.

A row that no batch held has a gradient of zero and moments of zero, so all that AdamW does to it in a step is
p <- p * (1 - rate * decay). The product of these factors is kept as one number and applied when a row is first
touched, and whenever the whole weight is asked for. Touched rows have their gradient and moments in compact tensors
[rows, hidden]. The weights are those of AdamW over the whole of it, but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.adamw import adamw

FIRST = 1024
"""Rows that there is room for at the start."""
GROWTH = 1.25
"""By how much the room grows when it is full: it is four times as large as the rows that it is for."""


class Table:
    """A weight [vocabulary, hidden] of which batches look up rows; `count` of them are touched.

    slots [vocabulary]: the place of a row among the touched, in the order of their first appearance, or -1. rows
    [room]: the row at each place. gradient, first, second [room, hidden]: gradient and moments of the touched rows.
    values [room, hidden]: the touched rows themselves while they are `held`, from an update until somebody asks for the
    weight: `release` puts them back. pending: what the others have still to be multiplied by. steps: updates so far.
    received: whether a gradient came since the last update. served: whether lookups ask the table. live: False once
    every row has moments of its own, which the optimizer then keeps itself.
    """

    def __init__(self, weight: nn.Parameter, padding: int | None = None) -> None:
        self.weight, self.served = weight, False
        self.reset(padding)

    def reset(self, padding: int | None = None) -> None:
        """No row is touched, as at the start of a training; that of the padding never gets a gradient."""
        self.padding = padding
        self.live, self.received, self.held, self.pending, self.count = True, False, False, 1.0, 0
        self.steps = torch.zeros((), device=self.weight.device)
        self.slots = torch.full((len(self.weight),), -1, device=self.weight.device)
        self.rows = self.slots.new_empty(0)
        empty = self.weight.detach().new_empty(0, self.weight.shape[1])
        self.gradient, self.first, self.second, self.values = empty, empty, empty, empty
        if self.padding is not None:
            # At place 0, so that its gradient is found without a search.
            self._take(self.slots.new_tensor([self.padding]))

    @torch.no_grad()
    def touch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The rows `ids` [...] as they stand, [..., hidden], and their places [...]; those that are new get one."""
        places = self.slots[ids]
        fresh = ids[places < 0]
        if len(fresh):
            self._take(fresh.unique())
            places = self.slots[ids]
        source, where = (self.values, places) if self.held else (self.weight, ids)
        return source.index_select(0, where.reshape(-1)).view(*ids.shape, -1), places

    def add(self, places: Tensor, gradient: Tensor) -> None:
        """Add a gradient [..., hidden] of the rows at these places [...]; that of the padding stays zero."""
        self.gradient.index_add_(0, places.reshape(-1), gradient.reshape(-1, gradient.shape[-1]))
        if self.padding is not None:
            self.gradient[0].zero_()
        self.received = True

    def forget_gradient(self) -> None:
        """Start the gradient anew."""
        if self.received:
            self.gradient[: self.count].zero_()
            self.received = False

    def read(self, ids: Tensor) -> Tensor:
        """The rows `ids` [...] as they stand, without a gradient: [..., hidden]."""
        self.release()
        rows = functional.embedding(ids, self.weight)
        if self.pending == 1.0:
            return rows
        factors = torch.where(self.slots[ids] < 0, self.pending, 1.0)
        return rows * factors.to(rows.dtype).unsqueeze(-1)

    @torch.no_grad()
    def step(self, group: Mapping[str, Any], scale: Tensor | None) -> None:
        """One update by AdamW with the settings of `group`; the gradient is divided by `scale` first."""
        if not self.received:
            return
        count = self.count
        if not self.held:
            torch.index_select(self.weight, 0, self.rows[:count], out=self.values[:count])
            self.held = True
        adamw(
            [self.values[:count]], [self.gradient[:count]], [self.first[:count]], [self.second[:count]], [],
            [self.steps], fused=group["fused"], grad_scale=scale, amsgrad=False, beta1=group["betas"][0],
            beta2=group["betas"][1], lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"],
            maximize=False,
        )  # fmt: skip
        self.pending *= 1.0 - group["lr"] * group["weight_decay"]

    @torch.no_grad()
    def release(self) -> None:
        """Put the touched rows back into the weight."""
        if self.held:
            self.weight.index_copy_(0, self.rows[: self.count], self.values[: self.count])
            self.held = False

    @torch.no_grad()
    def whole(self) -> Tensor:
        """A copy of the weight as it stands, with nothing pending: [vocabulary, hidden]."""
        self.release()
        untouched = (self.slots < 0).unsqueeze(-1)
        return torch.where(untouched, self.weight * self.pending, self.weight)

    @torch.no_grad()
    def flush(self) -> None:
        """Let the weight be what it is: touched rows put back, and what is pending applied."""
        self.release()
        if self.pending != 1.0:
            self.weight.copy_(self.whole())
            self.pending = 1.0

    @torch.no_grad()
    def spread(self) -> dict[str, Tensor]:
        """AdamW's state of the whole weight; what is pending is applied, and every row is touched from now on.

        The gradient that came meanwhile is added to the weight's own.
        """
        if self.received:
            if self.weight.grad is None:
                self.weight.grad = torch.zeros_like(self.weight)
            self.weight.grad.index_add_(0, self.rows[: self.count], self.gradient[: self.count])
        state = whole_state(self.state(), self.weight)
        self.pending = 1.0
        self.leave()
        return state

    def rest(self) -> None:
        """The weight does not train for now: apply what is pending and forget the rest. It may train again, from a
        fresh state.
        """
        if self.count > (self.padding is not None):
            self.flush()
            self.reset(self.padding)

    def leave(self) -> None:
        """Every row has moments of its own from now on: apply what is pending and forget the rest."""
        self.flush()
        self.reset()
        self.live = False

    def state(self) -> dict[str, Tensor]:
        """What a resume needs beside the weight, into which the touched rows are put back."""
        self.release()
        return {
            "step": self.steps,
            "exp_avg": self.first[: self.count],
            "exp_avg_sq": self.second[: self.count],
            "rows": self.rows[: self.count],
            "pending": torch.tensor(self.pending, dtype=torch.float64),
            "padding": torch.tensor(-1 if self.padding is None else self.padding),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave; the weight must be the one of that moment."""
        kept = {name: tensor.to(self.weight.device, copy=True) for name, tensor in state.items()}
        self.reset(None if int(kept["padding"]) < 0 else int(kept["padding"]))
        # The padding has its place already.
        self._take(kept["rows"][self.count :])
        self.first[: self.count], self.second[: self.count] = kept["exp_avg"], kept["exp_avg_sq"]
        self.steps, self.pending = kept["step"], float(kept["pending"])

    @torch.no_grad()
    def _take(self, rows: Tensor) -> None:
        start, self.count = self.count, self.count + len(rows)
        if self.count > len(self.rows):
            room = min(len(self.weight), max(FIRST, int(GROWTH * len(self.rows)), self.count))
            kept = (self.rows, self.gradient, self.first, self.second, self.values)
            self.rows, self.gradient, self.first, self.second, self.values = (_wider(one, room) for one in kept)
        self.rows[start : self.count] = rows
        self.slots[rows] = torch.arange(start, self.count, device=rows.device)
        if self.held:
            self.values[start : self.count] = self.weight[rows] * self.pending
        elif self.pending != 1.0:
            self.weight[rows] *= self.pending


def _wider(tensor: Tensor, room: int) -> Tensor:
    """The tensor with zeros behind it: [room, ...]."""
    wide = tensor.new_zeros(room, *tensor.shape[1:])
    wide[: len(tensor)] = tensor
    return wide


@torch.no_grad()
def whole_state(state: Mapping[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """AdamW's state of a whole weight [vocabulary, hidden] from that of the rows that were touched: zeros elsewhere.

    What is pending is applied to the other rows.
    """
    rows = state["rows"].to(weight.device)
    found = {"step": state["step"].to(weight.device)}
    for name in ("exp_avg", "exp_avg_sq"):
        found[name] = torch.zeros_like(weight)
        found[name][rows] = state[name].to(weight)
    untouched = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
    untouched[rows] = False
    weight[untouched] *= float(state["pending"])
    return found
