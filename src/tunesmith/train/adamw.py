"""AdamW that knows tables: weights of which only the rows that batches touched have gradients and moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.train.table import Table


class AdamW(torch.optim.AdamW):
    """torch's AdamW, and beside it the tables that `touched` enters: `tables`, by their weight.

    A table's weight stands in a group as any other. It has no gradient of its own; where one comes all the same (a
    penalty on the weight), every row counts as touched from then on. `grad_scale` (torch's own word), where it is set,
    divides the gradients inside the fused kernel, which writes them back.
    """

    grad_scale: Tensor | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.tables: dict[nn.Parameter, Table] = {}

    def gradients(self) -> list[Tensor]:
        """Every gradient there is, each number of them once."""
        return list(self.by_parameter().values())

    def by_parameter(self) -> dict[nn.Parameter, Tensor]:
        """The same by the parameters that they belong to."""
        self._settle()
        own = {parameter: parameter.grad for parameter in self._parameters() if parameter.grad is not None}
        tables = {weight: table for weight, table in self._acting().items() if table.received}
        return own | {weight: table.gradient[: table.count] for weight, table in tables.items()}

    def gradient(self, parameter: nn.Parameter) -> Tensor | None:
        """The gradient of a parameter; of a table that of its touched rows, [rows, hidden], in the order of their first
        appearance.
        """
        table = self.tables.get(parameter)
        if table is None or not table.live or parameter.grad is not None:
            return parameter.grad
        return table.gradient[: table.count] if table.received else None

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of everything that has a gradient."""
        self._settle()
        loss = super().step(closure)
        for weight, table in self._acting().items():
            table.step(self._group(weight), self.grad_scale)
        # The fused kernel does not tell autograd that it changed them: a copy in another type would not be renewed.
        torch.autograd.graph.increment_version([p for p in self._parameters() if p.grad is not None])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        super().zero_grad(set_to_none)
        for table in self.tables.values():
            table.forget_gradient()
            if not table.served:
                # As after a resume without `touched`: whoever looks up rows next takes them from the weight.
                table.flush()

    def release(self) -> None:
        """Put the tables' touched rows into their weights, which changes no later step by a bit."""
        for table in self.tables.values():
            table.release()

    def flush(self) -> None:
        """Let the tables' weights be what they are, with nothing pending, so that anybody may read or replace them."""
        for table in self.tables.values():
            table.flush()

    def state_dict(self) -> dict[str, Any]:
        """torch's, with the state of the tables' touched rows."""
        self._settle()
        acting = self._acting()
        self.state.update({weight: table.state() for weight, table in acting.items()})
        try:
            return super().state_dict()
        finally:
            for weight in acting:
                del self.state[weight]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; the weights must be those of that moment. Where it holds the state of a
        table, there is one from now on, and where it holds that of all rows, there is none.
        """
        states: dict[int, dict[str, Tensor]] = state_dict["state"]
        rows = {number: state for number, state in states.items() if "rows" in state}
        rest = {number: state for number, state in states.items() if "rows" not in state}
        super().load_state_dict({**state_dict, "state": rest})
        numbered = dict(enumerate(self._parameters()))
        for number, state in rows.items():
            weight = numbered[number]
            self.tables.setdefault(weight, Table(weight)).restore(state)
        for number in rest:
            if numbered[number] in self.tables:
                self.tables[numbered[number]].leave()

    def _settle(self) -> None:
        """Let the tables rest that are frozen now, and end those with a gradient over all their rows."""
        acting = self._acting()
        for weight, table in self.tables.items():
            if table.live and weight not in acting:
                table.rest()
            elif weight in acting and weight.grad is not None:
                self.state[weight] = table.spread()

    def _acting(self) -> dict[nn.Parameter, Table]:
        """The tables whose weight trains now."""
        trained = set(map(id, self._parameters()))
        return {weight: table for weight, table in self.tables.items() if table.live and id(weight) in trained}

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _group(self, weight: nn.Parameter) -> dict[str, Any]:
        return next(group for group in self.param_groups if any(weight is one for one in group["params"]))
