"""The diagonal of the Fisher information: how much each weight matters to what a model says. Used by ewc.

    F_i = mean over examples x of E_y~p(y|x) (d log p(y|x) / d w_i)^2

The answers y are drawn from the model, once an example, so that no labels are needed: with the labels of the data it
would be another matrix (the empirical Fisher), and squares of a batch's mean gradient would be none at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Batch, Step
from tunesmith.core.tokens import IGNORED


def fisher(model: nn.Module, weights: Sequence[Tensor], steps: Iterable[Step], draw: torch.Generator) -> list[Tensor]:
    """F of `weights`, in float32, from steps of one example each. The model is left as it was."""
    found = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    places = {id(weight): place for place, weight in zip(found, weights, strict=True)}
    modes = {module: module.training for module in model.modules()}
    wanted = [weight.requires_grad for weight in weights]
    looked = [_Looked(module) for module in tables(model) if id(module.weight) in places]
    rest = [weight for weight in weights if not any(weight is one.module.weight for one in looked)]
    model.eval()
    count = 0
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for one in looked:
            vars(one.module)["forward"] = one
        for step in steps:
            surprise = drawn_surprise(step.outputs.logits, step.batch, draw)
            rows = [row for one in looked for row in one.rows]
            gradients = torch.autograd.grad(surprise, [*rest, *rows], allow_unused=True)
            for weight, gradient in zip(rest, gradients, strict=False):
                if gradient is not None:
                    places[id(weight)].addcmul_(gradient.float(), gradient.float())
            of_rows = iter(gradients[len(rest) :])
            for one in looked:
                one.square(places[id(one.module.weight)], [next(of_rows) for _ in one.rows])
            count += 1
    finally:
        for one in looked:
            vars(one.module).pop("forward", None)
        for weight, before in zip(weights, wanted, strict=True):
            weight.requires_grad_(before)
        for module, training in modes.items():
            module.training = training
    return [place / max(1, count) for place in found]


def tables(model: nn.Module) -> list[nn.Embedding]:
    """The embeddings of a model whose weight is read by looking rows up and in no other way."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())
    return [
        module
        for module in model.modules()
        if type(module) is nn.Embedding
        and "forward" not in vars(module)
        and owners[id(module.weight)] == 1
        and not (module.max_norm or module.scale_grad_by_freq or module.sparse)
    ]


class _Looked:
    """Stands in for the forward of a table: what is looked up has a gradient, and the table, which is large, has none.

    ids, rows: of every lookup since the last `square`.
    """

    def __init__(self, module: nn.Embedding) -> None:
        self.module = module
        self.ids: list[Tensor] = []
        self.rows: list[Tensor] = []

    def __call__(self, input: Tensor) -> Tensor:
        """Rows [..., hidden] of the ids [...]."""
        rows = functional.embedding(input, self.module.weight.detach()).requires_grad_()
        self.ids.append(input)
        self.rows.append(rows)
        return rows

    def square(self, into: Tensor, gradients: Sequence[Tensor | None]) -> None:
        """Add the square of each row's gradient, over all places where it was looked up, to `into` [rows, hidden]."""
        pairs = [(ids, one) for ids, one in zip(self.ids, gradients, strict=True) if one is not None]
        self.ids, self.rows = [], []
        if not pairs:
            return
        ids = torch.cat([one.flatten() for one, _ in pairs])
        found, places = ids.unique(return_inverse=True)
        width = into.shape[1]
        each = into.new_zeros(len(found), width)
        each.index_add_(0, places, torch.cat([one.reshape(-1, width) for _, one in pairs]).float())
        if self.module.padding_idx is not None:
            each[found == self.module.padding_idx] = 0
        into.index_add_(0, found, each.square_())


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
