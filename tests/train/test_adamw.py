"""AdamW with tables: its gradients are those of the whole, each number once."""

from __future__ import annotations

import torch
from torch import nn

from tunesmith.train import clip
from tunesmith.train.adamw import AdamW
from tunesmith.train.touched import touched


class Model(nn.Module):
    """Rows and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4, _weight=torch.arange(36.0).view(9, 4) / 10)
        self.scale = nn.Parameter(torch.ones(4))

    def get_input_embeddings(self) -> nn.Module:
        """What transformers calls the table of words."""
        return self.words

    def loss(self, *ids: int) -> torch.Tensor:
        """A loss that is not linear in the rows."""
        return ((self.words(torch.tensor(ids)) * self.scale) ** 2).sum()


def test_the_norm_is_that_of_whole_gradients() -> None:
    plain, model = Model(), Model()
    optimizer = AdamW(model.parameters(), lr=0.1)
    with touched(model, optimizer, [], "float32"):
        for one in (plain, model):
            one.loss(3, 3, 7).backward()
        parameters = [p.grad for p in plain.parameters() if p.grad is not None]
        expected = torch.nn.utils.get_total_norm(parameters)
        torch.testing.assert_close(clip.norm(optimizer), expected)
        assert [tuple(gradient.shape) for gradient in optimizer.gradients()] == [(4,), (2, 4)]
        # A gradient of the whole weight joins that of the rows: the norm is of their sum, not of both apart.
        for one in (plain, model):
            one.words.weight.sum().backward()
        torch.testing.assert_close(clip.norm(optimizer), torch.nn.utils.get_total_norm(parameters))
        assert [tuple(gradient.shape) for gradient in optimizer.gradients()] == [(4,), (9, 4)]


def test_zero_grad_forgets_the_rows_gradient_too() -> None:
    model = Model()
    optimizer = AdamW(model.parameters(), lr=0.1)
    with touched(model, optimizer, [], "float32"):
        model.loss(1).backward()
        optimizer.zero_grad()
        assert optimizer.gradients() == []
        model.loss(1).backward()
        once = optimizer.gradients()[1].clone()
        optimizer.zero_grad()
        for _ in range(2):
            model.loss(1).backward()
        torch.testing.assert_close(optimizer.gradients()[1], 2 * once)


def test_autograd_learns_that_weights_changed() -> None:
    # The fused kernel alone leaves the version as it is (torch 2.13), by which copies in another type are renewed.
    model = Model()
    optimizer = AdamW(model.parameters(), lr=0.1, fused=True)
    before = [parameter._version for parameter in model.parameters()]
    model.loss(1).backward()
    optimizer.step()
    assert all(p._version > old for p, old in zip(model.parameters(), before, strict=True))
