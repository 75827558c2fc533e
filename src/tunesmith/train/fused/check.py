"""Whether a block as one function gives what its own forward gives: compared on random numbers, forward and gradients.

Both run a copy of the block in float32 without dropout, in which everything trains and no number is special (a fresh
low-rank product is zero); the block itself is not touched.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.core.layout import Layout
from tunesmith.train.fused.tape import run

LENGTHS = (3, 7, 1, 7)
"""Tokens of the sequences that are compared, in a batch that is neither sorted nor full."""
TOLERANCE = 1e-4
"""The largest difference that rounding explains, as a share of the largest number compared."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def kind(block: nn.Module) -> Any:
    """Blocks that are equal in this compute the same with other weights."""
    modules = [(path, type(module), _settings(module)) for path, module in block.named_modules()]
    return (*modules, *((name, tuple(parameter.shape)) for name, parameter in block.named_parameters()))


def _settings(module: nn.Module) -> Any:
    """The plain values that a module holds: what it computes may depend on them. Its place in the model is none."""
    settings = [(name, value) for name, value in vars(module).items() if isinstance(value, bool | int | float | str)]
    return tuple((name, value) for name, value in settings if name not in ("training", "layer_idx"))


def differs(block: nn.Module, recognised: Callable[[nn.Module], Any]) -> str:
    """A sentence that says what differs; "" where nothing does. `recognised` gives the family's view of a block."""
    name = type(block).__name__
    try:
        with torch.inference_mode(False), torch.enable_grad():
            both = _both(_stirred(block), recognised)
    except (RuntimeError, TypeError, ValueError) as error:
        return f"{name} could not be compared with itself as one function: {error}"
    # Some gradients are nothing but rounding, as that of the keys' bias is: shifting all scores changes no softmax.
    least = 0.1 * max(theirs.abs().max().item() for _, theirs in both.values())
    for what, (ours, theirs) in both.items():
        largest = max(theirs.abs().max().item(), least)
        if not torch.isfinite(ours).all() or (ours - theirs).abs().max().item() > TOLERANCE * largest:
            return f"As one function {name} gives another {what} than its own forward."
    return ""


def _stirred(block: nn.Module) -> nn.Module:
    """A copy of the block, without hooks, in float32 and evaluation, in which everything trains and is random."""
    # What a module's hooks hold is not copied: they may hold the whole model.
    left: dict[int, Any] = {id(getattr(module, name)): OrderedDict() for module in block.modules() for name in _HOOKS}
    left |= {id(module.config): module.config for module in block.modules() if hasattr(module, "config")}
    made = copy.deepcopy(block, left).float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.requires_grad_(True)
            if parameter.min() == parameter.max():
                noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
                parameter.add_(noise, alpha=0.1)
    return made


def _both(block: nn.Module, recognised: Callable[[nn.Module], Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """What the block gives as one function and by its own forward: the output, and every gradient, by name; for all
    tokens, and for the first of each sequence.
    """
    family, device = recognised(block), next(block.parameters()).device
    mask = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).to(device)  # [sequences, time]
    layout = Layout.of(mask, causal=False)
    reading = replace(layout, read=layout.starts[torch.argsort(layout.order)])
    generator = torch.Generator().manual_seed(1)
    x, grad = torch.randn(2, *mask.shape, family.width, generator=generator).to(device)
    closed = torch.zeros(len(LENGTHS), 1, 1, mask.shape[1], device=device).masked_fill_(~mask[:, None, None], -1e30)
    closed = closed.expand(-1, -1, mask.shape[1], -1)  # [sequences, 1, time, time]
    turns = torch.randn(2, *mask.shape, family.turned, generator=generator).to(device)
    positions = {"position_embeddings": tuple(turns)} if family.turned else {}

    def own(padded: Tensor) -> Tensor:
        found: Tensor = type(block).forward(block, padded, attention_mask=closed, **positions)
        return found * mask[..., None]

    def row(padded: Tensor) -> Tensor:
        out = _run(family, padded, layout, turns)[0, : layout.tokens]
        return torch.zeros_like(padded).flatten(0, 1).index_copy(0, layout.places, out).view_as(padded)

    def read(padded: Tensor) -> Tensor:
        return _run(family, padded, reading, turns)[0]

    with torch.autocast(device.type, enabled=False):
        all_of_them = _paired(block, x, grad, (row, own))
        first = _paired(block, x, grad[:, 0], (read, lambda padded: own(padded)[:, 0]))
    return all_of_them | {f"{what} of the tokens that are read": pair for what, pair in first.items()}


def _run(family: Any, padded: Tensor, layout: Layout, turns: Tensor) -> Tensor:
    row, *positions = (x.flatten(0, 1).index_select(0, layout.taken)[None] for x in (padded, *turns))
    work = family.work(row, layout, layout.read is not None, positions)  # row: [1, total, hidden]
    if isinstance(work, str):
        raise ValueError(work)
    return run(work, row)


def _paired(
    block: nn.Module, x: Tensor, grad: Tensor, functions: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Output and gradients of both functions, side by side."""
    x = x.clone().requires_grad_()
    wanted = {"gradient of its input": x} | {f"gradient of {name}": p for name, p in block.named_parameters()}
    ours, theirs = (
        [out, *torch.autograd.grad(out, list(wanted.values()), grad)] for out in (function(x) for function in functions)
    )
    return dict(zip(("output", *wanted), zip(ours, theirs, strict=True), strict=True))
