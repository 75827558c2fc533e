"""The norm of an update's gradient, and the step that keeps it below a limit.

g <- g * min(1, limit / (|g| + 1e-6)), with |g| over all gradients together: torch's `clip_grad_norm_`. The factor goes
into the optimizer's fused kernel, which scales the gradients as it reads them and writes them back; with other
optimizers, they are scaled before the step. An update below the limit costs no pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.train.adamw import AdamW

TINY = 1e-6
"""torch's guard against a division by zero."""


def gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every gradient of what the optimizer trains."""
    if isinstance(optimizer, AdamW):
        return optimizer.gradients()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """The 2-norm of all gradients together: a scalar; zero where there are none."""
    found = gradients(optimizer)
    if not found:
        return torch.zeros(())
    norms = [one.to(found[0].device) for one in torch._foreach_norm(found)]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


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
        torch._foreach_mul_(gradients(optimizer), factor)
        optimizer.step()
