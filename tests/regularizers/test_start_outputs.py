"""The body's output is computed once a step; the start answers as it did."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests import toy
from tunesmith.core import surgery
from tunesmith.regularizers.start_outputs import Before, Remembering


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.calls += 1
        return x + 1


def test_the_same_tensors_are_computed_once() -> None:
    body = Counting()
    remembering, x = Remembering(body), torch.zeros(2)
    assert remembering(x) is remembering(x) and body.calls == 1
    assert torch.equal(remembering(x, mask=x), x + 1) and body.calls == 2
    with torch.no_grad():
        remembering(x, mask=x)
    assert body.calls == 3
    remembering.forget()
    remembering(x)
    assert body.calls == 4


@pytest.mark.parametrize("method", ["full", "lora", "prefix", "bitfit"])
def test_the_start_answers_as_it_did(method: str) -> None:
    training = toy.prepared({"method": method}).training
    inputs = next(toy.prepared({}).batches.stream(0)).batches[0].inputs
    before = Before(training)
    with before.acting():
        expected = before.model(**inputs).logits
    with torch.no_grad():
        for name, parameter in surgery.trained(training.model).items():
            if not name.startswith("classifier"):
                parameter += 0.3
    training.model.train()
    with before.acting():
        again = before.model(**inputs).logits
        assert not again.requires_grad
    assert torch.allclose(again, expected, atol=1e-6)
    assert training.model.training and all(module.active for module in surgery.inserted(training.model).values())
