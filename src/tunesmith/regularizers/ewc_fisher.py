"""The diagonal of the Fisher information: how much each weight matters to what a model says. Used by ewc.

    F_i = mean over examples x of E_y~p(y|x) (d log p(y|x) / d w_i)^2

The answers y are drawn from the model, once an example, so that no labels are needed: with the labels of the data it
would be another matrix (the empirical Fisher), and squares of a batch's mean gradient would be none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Batch, Step
from tunesmith.core.tokens import IGNORED


def fisher(model: nn.Module, weights: Sequence[Tensor], steps: Iterable[Step], draw: torch.Generator) -> list[Tensor]:
    """F of `weights`, in float32, from steps of one example each. The model is left as it was."""
    found = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    modes = {module: module.training for module in model.modules()}
    wanted = [weight.requires_grad for weight in weights]
    model.eval()
    count = 0
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for step in steps:
            surprise = drawn_surprise(step.outputs.logits, step.batch, draw)
            gradients = torch.autograd.grad(surprise, list(weights), allow_unused=True)
            for place, gradient in zip(found, gradients, strict=True):
                if gradient is not None:
                    place.addcmul_(gradient.float(), gradient.float())
            count += 1
    finally:
        for weight, before in zip(weights, wanted, strict=True):
            weight.requires_grad_(before)
        for module, training in modes.items():
            module.training = training
    return [place / max(1, count) for place in found]


def drawn_surprise(logits: Tensor, batch: Batch, draw: torch.Generator) -> Tensor:
    """-log p(y) of answers y drawn from what the model says: a scalar.

    Of classes [examples, classes] one each; of several at once each for itself; of words or tags [sequences, time,
    classes] one at every position that carries loss; of a number z, y = z + a draw from the normal distribution, whose
    -log p is (z - y)^2 / 2 and a constant. Answers of another form raise RecipeError.
    """
    targets, logits = batch.fields["targets"], logits.float()
    if logits.shape[-1] == 1 or (logits.dim() == 1 and targets.is_floating_point()):
        noise = torch.randn(logits.shape, generator=draw).to(logits.device)
        return 0.5 * ((logits - (logits.detach() + noise)) ** 2).sum()
    if targets.is_floating_point() and targets.shape == logits.shape:
        kept = torch.rand(logits.shape, generator=draw).to(logits.device) < logits.detach().sigmoid()
        return binary_cross_entropy_with_logits(logits, kept.float(), reduction="sum")
    if targets.shape != logits.shape[:-1]:
        raise RecipeError(
            f"ewc can't draw answers: targets are {tuple(targets.shape)} and scores {tuple(logits.shape)}.",
            hint="Use another regularizer, such as l2_sp.",
        )
    rows = logits[targets != IGNORED]  # [answers, classes]
    if not len(rows):
        return logits.sum() * 0
    drawn = torch.multinomial(rows.detach().softmax(-1).cpu(), 1, generator=draw)[:, 0].to(rows.device)
    return cross_entropy(rows, drawn, reduction="sum")


def penalty(weights: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """1/2 sum F (w - w0)^2 over weights w, starts w0 and Fishers F of equal shapes: a scalar."""
    found = [(information * (w - w0).float() ** 2).sum() for w, w0, information in weights]
    return 0.5 * torch.stack(found).sum() if found else torch.zeros(())
