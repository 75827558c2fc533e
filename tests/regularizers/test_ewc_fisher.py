"""The Fisher information by hand: on a model of two parameters, on logistic regression, with answers that are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Batch, Step
from tunesmith.regularizers.ewc_fisher import drawn_surprise, fisher, tables


class Logistic(nn.Module):
    """Two classes with the scores 0 and w x: two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5, -1.0]))

    def forward(self, x: Tensor) -> Any:
        score = x @ self.w
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(score), score], dim=-1))


def steps(model: nn.Module, xs: Tensor, times: int) -> Iterator[Step]:
    for _ in range(times):
        for x in xs:
            batch = Batch({"x": x[None]}, {"targets": torch.zeros(1, dtype=torch.long)}, rows=[0])
            yield Step(model, None, batch)  # type: ignore[arg-type]


def test_of_logistic_regression_it_is_p_times_one_minus_p_times_x_squared() -> None:
    model, xs = Logistic(), torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.0, 3.0]])
    p = (xs @ model.w.detach()).sigmoid()
    expected = (p * (1 - p))[:, None] * xs**2
    (found,) = fisher(model, [model.w], steps(model, xs, 3000), torch.Generator().manual_seed(3))
    assert found.tolist() == pytest.approx(expected.mean(0).tolist(), rel=0.05)


def test_it_leaves_the_model_as_it_was() -> None:
    model = Logistic().train()
    model.w.requires_grad_(False)
    fisher(model, [model.w], steps(model, torch.ones(1, 2), 1), torch.Generator())
    assert model.training and not model.w.requires_grad and model.w.grad is None


def test_what_is_not_used_does_not_matter() -> None:
    model, unused = Logistic(), nn.Parameter(torch.ones(3))
    found = fisher(model, [model.w, unused], steps(model, torch.ones(1, 2), 3), torch.Generator())
    assert found[1].tolist() == [0, 0, 0] and (found[0] > 0).all()


def batch(targets: Tensor) -> Batch:
    return Batch({}, {"targets": targets}, rows=range(len(targets)))


def test_words_are_drawn_where_there_is_a_loss() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = logits[0, 2, 1] = 50.0  # sure
    found = drawn_surprise(logits, batch(torch.tensor([[0, -100, 0]])), torch.Generator())
    assert found.item() == pytest.approx(0, abs=1e-6)
    uniform = drawn_surprise(torch.zeros(1, 3, 4), batch(torch.tensor([[0, -100, 0]])), torch.Generator())
    assert uniform.item() == pytest.approx(2 * torch.log(torch.tensor(4.0)).item())
    assert drawn_surprise(logits, batch(torch.full((1, 3), -100)), torch.Generator()).item() == 0


def test_several_classes_at_once_and_numbers() -> None:
    sure = torch.tensor([[50.0, -50.0]])
    assert drawn_surprise(sure, batch(torch.zeros(1, 2)), torch.Generator()).item() == pytest.approx(0, abs=1e-6)
    score = torch.tensor([[2.0]], requires_grad=True)
    found = drawn_surprise(score, batch(torch.zeros(1)), torch.Generator().manual_seed(0))
    noise = torch.randn(1, 1, generator=torch.Generator().manual_seed(0))
    assert found.item() == pytest.approx(0.5 * noise.item() ** 2)
    assert torch.autograd.grad(found, score)[0].item() == pytest.approx(-noise.item())


def test_answers_of_another_form_are_refused() -> None:
    with pytest.raises(RecipeError, match="ewc can't draw answers"):
        drawn_surprise(torch.zeros(2, 3, 4), batch(torch.zeros(2, dtype=torch.long)), torch.Generator())


class Table(nn.Module):
    """Two classes with the scores 0 and the sum of rows; the row of the padding never learns."""

    def __init__(self, looked: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 2, padding_idx=0, _weight=torch.arange(12.0).view(6, 2) / 10)
        self.kinds = nn.Embedding(2, 2, _weight=torch.ones(2, 2))
        # A second owner: the weight is then no table.
        self.other = nn.Linear(2, 6) if looked else nn.Embedding(6, 2, padding_idx=0, _weight=self.words.weight)
        if not looked:
            self.other.weight = self.words.weight

    def forward(self, ids: Tensor) -> Any:
        score = (self.words(ids) ** 2).sum((1, 2)) - self.kinds(ids % 2).prod(1).sum(1)
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(score), score], dim=-1))


def test_rows_that_are_looked_up_give_what_whole_tables_give() -> None:
    found = []
    for looked in (True, False):
        model = Table(looked)
        assert (model.words in tables(model)) is looked and model.kinds in tables(model)
        batches = [Batch({"ids": ids}, {"targets": torch.zeros(1, dtype=torch.long)}, rows=[0])
                   for ids in (torch.tensor([[3, 0, 3]]), torch.tensor([[1, 4, 0]]))]  # fmt: skip
        steps = (Step(model, None, batch) for batch in batches)  # type: ignore[arg-type]
        found.append(fisher(model, [model.words.weight, model.kinds.weight], steps, torch.Generator().manual_seed(1)))
        assert model.words.forward.__func__ is nn.Embedding.forward  # type: ignore[attr-defined]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    rows = found[0][0].abs().sum(1) > 0
    assert rows.tolist() == [False, True, False, True, True, False]
