"""The norm of an update's gradient, and the step that keeps it below a limit.

g <- g * min(1, limit / (|g| + 1e-6)), with |g| over all gradients together: torch's `clip_grad_norm_`. The factor goes
into the optimizer's fused kernel, which scales the gradients as it reads them and writes them back; with other
optimizers, they are scaled before the step. An update below the limit costs no pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tunesmith.train.adamw import AdamW

TINY = 1e-6
"""torch's guard against a division by zero."""


def gradients(optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, Tensor]:
    """Every gradient of what the optimizer trains, by its parameter; of a table that of its touched rows."""
    if isinstance(optimizer, AdamW):
        return optimizer.by_parameter()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {parameter: parameter.grad for parameter in parameters if parameter.grad is not None}


def norms(optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, Tensor]:
    """The 2-norm of each gradient: scalars, on the device of the first."""
    found = gradients(optimizer)
    if not found:
        return {}
    device = next(iter(found.values())).device
    sizes = torch._foreach_norm(list(found.values()))
    return {parameter: size.to(device) for parameter, size in zip(found, sizes, strict=True)}


def total(found: Mapping[nn.Parameter, Tensor]) -> Tensor:
    """The 2-norm of all gradients together, from those of each: a scalar; zero where there are none."""
    if not found:
        return torch.zeros(())
    size: Tensor = torch.linalg.vector_norm(torch.stack(list(found.values())))
    return size


def norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """The 2-norm of all gradients together: a scalar; zero where there are none."""
    return total(norms(optimizer))


def undone(size: float, limit: float) -> float:
    """By what gradients of norm `size` that torch has scaled down to `limit` are multiplied to be whole again."""
    return max(1.0, (size + TINY) / limit)


def step(optimizer: torch.optim.Optimizer, size: float, limit: float) -> None:
    """Let the optimizer make its step with gradients of norm `size`, scaled down to `limit` where that is smaller."""
    factor = limit / (size + TINY)
    if factor >= 1.0:
        optimizer.step()
    elif isinstance(optimizer, AdamW) and optimizer.defaults["fused"]:
        optimizer.grad_scale = torch.tensor(1.0 / factor)
        try:
            optimizer.step()
        finally:
            optimizer.grad_scale = None
    else:
        torch._foreach_mul_(list(gradients(optimizer).values()), factor)
        optimizer.step()
