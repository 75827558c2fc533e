"""Embedding rows that no batch has touched yet cost nothing: no gradient, no moments, no pass of the optimizer.

The word embeddings become a `Table` while a training runs: their forward looks up rows by hand, and the gradient goes
to the rows that were looked up and not to a tensor as large as the vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.part import Part
from tunesmith.train.adamw import AdamW
from tunesmith.train.table import Table

NONE_TRAIN = "no word embeddings train"
"""The reason where there is nothing to leave out."""


class _Rows(torch.autograd.Function):
    """Rows of a table; their gradient goes to the table, and none to its weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, table: Table) -> Tensor:
        ctx.table = table
        rows, places = table.touch(ids)
        ctx.save_for_backward(places)
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (places,) = ctx.saved_tensors
        ctx.table.add(places, gradients[0])
        return None, None, None


class Lookup:
    """The forward of an embedding whose weight is a table; without one (in a copy of the model), that of its class."""

    def __init__(self, module: nn.Embedding, table: Table | None) -> None:
        self.module = module
        self.table = table

    def __call__(self, input: Tensor) -> Tensor:
        """Rows [..., hidden] of the ids [...]."""
        table = self.table
        if table is None or not table.live:
            return nn.Embedding.forward(self.module, input)
        if torch.is_grad_enabled() and table.weight.requires_grad:
            return cast(Tensor, _Rows.apply(table.weight, input, table))  # type: ignore[no-untyped-call]
        return table.read(input)

    def __deepcopy__(self, memo: dict[int, Any]) -> Lookup:
        """A copy of the model trains by itself, and has nothing pending."""
        if self.table is not None and self.table.live:
            copy.deepcopy(self.table.weight, memo).data.copy_(self.table.whole())
        return Lookup(copy.deepcopy(self.module, memo), None)


def _show(lookup: Lookup, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let the module's `state_dict` hold the weight as it stands."""
    if lookup.table is None:
        return
    lookup.table.release()
    if lookup.table.pending != 1.0:
        state[f"{prefix}weight"] = lookup.table.whole()


def _flush(lookup: Lookup, *_: Any) -> None:
    """Apply what is pending, before another weight is loaded."""
    if lookup.table is not None:
        lookup.table.flush()


@contextmanager
def touched(model: nn.Module, optimizer: torch.optim.Optimizer, parts: Sequence[Part], precision: str) -> Iterator[str]:
    """Inside the block, rows of the word embeddings that no batch has touched are left out of gradient and update.

    Yields "", or why this training can't have it; the embeddings are then as they were. At the end nothing is pending.
    """
    found = list(dict.fromkeys(anatomy.word_embeddings(model).values()))
    reason = _obstacle(model, found, optimizer, parts, precision)
    if reason:
        yield reason
        return
    tables = cast(AdamW, optimizer).tables
    modules = cast(list[nn.Embedding], found)
    weight = cast(nn.Parameter, modules[0].weight)
    if weight not in tables:
        tables[weight] = Table(weight, modules[0].padding_idx)
    table = tables[weight]
    table.served = True
    handles = []
    for module in modules:
        lookup = Lookup(module, table)
        vars(module)["forward"] = lookup
        handles.append(module.register_state_dict_post_hook(partial(_show, lookup)))
        handles.append(module.register_load_state_dict_pre_hook(partial(_flush, lookup)))
    try:
        yield ""
    finally:
        for handle in handles:
            handle.remove()
        for module in modules:
            vars(module).pop("forward", None)
        table.flush()
        table.served = False


def _obstacle(
    model: nn.Module, found: list[nn.Module], optimizer: torch.optim.Optimizer, parts: Sequence[Part], precision: str
) -> str:
    """Why rows can't be left out, as half a sentence; "" where they can."""
    weights = {id(module.weight): module.weight for module in found if isinstance(module, nn.Embedding)}
    trains = _trains(model, optimizer)
    curious = [part.word() for part in parts if _is_curious(part)]
    reason = ""
    if not weights or not weights.keys() <= trains:
        reason = NONE_TRAIN
    elif not isinstance(optimizer, AdamW):
        reason = f"the optimizer {type(optimizer).__name__} takes whole gradients"
    elif precision == "float16":
        reason = "float16 scales whole gradients"
    elif curious:
        reason = f"{curious[0]} may look at weights and gradients"
    elif len(weights) > 1 or not all(_is_plain(module) for module in found):
        reason = "the word embeddings are of a kind of their own"
    elif _others(model, found):
        reason = "the output layer shares its weight with the word embeddings"
    elif _begun(optimizer, weights.values()):
        reason = "every row has moments already"
    return reason


def _is_curious(part: Part) -> bool:
    """Whether a part acts where it may look at the embeddings' weight or gradient by hand."""
    acts = type(part).after_step is not Part.after_step or type(part).loss is not Part.loss
    return acts and part.by_hand


def _trains(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[int]:
    """The `id`s of the parameters that train, now or when a part lets them."""
    names = {name for group in optimizer.param_groups for name in group.get("home", group.get("names", ()))}
    return {id(p) for name, p in model.named_parameters() if p.requires_grad or name in names}


def _begun(optimizer: AdamW, weights: Iterable[Tensor]) -> bool:
    """Whether the optimizer keeps moments of a whole weight."""
    ended = {id(weight) for weight, table in optimizer.tables.items() if not table.live}
    return any(optimizer.state.get(weight) or id(weight) in ended for weight in weights)


def _is_plain(module: nn.Module) -> bool:
    """Whether this looks up rows and does nothing else."""
    return (
        isinstance(module, nn.Embedding)
        and type(module).forward is nn.Embedding.forward
        and "forward" not in vars(module)
        and module.weight.dtype == torch.float32
        and not (module.max_norm or module.scale_grad_by_freq or module.sparse)
    )


def _others(model: nn.Module, found: list[nn.Module]) -> bool:
    """Whether another module has the embeddings' weight too."""
    known = {id(module) for module in found}
    shared = {id(parameter) for module in found for parameter in module.parameters(recurse=False)}
    return any(
        id(parameter) in shared
        for module in model.modules()
        if id(module) not in known
        for parameter in module.parameters(recurse=False)
    )
