"""Several tasks at once: turns, weights, learned variances, and gradients that agree or not."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Batch, Step
from tunesmith.objectives.multi_task import MultiTask, cosine, sampling_shares


def met(**settings: Any) -> MultiTask:
    made = MultiTask(**settings)
    made.meet({"a": 300, "b": 100})
    return made


def step_of(of: int, loss: float, share: float = 1.0) -> Step:
    task = SimpleNamespace(loss=lambda step: torch.tensor(loss, requires_grad=True))
    return Step(torch.nn.Identity(), task, Batch({}, {}, of=of), targets=2.0, share=share)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(1.0, [0.75, 0.25]), (0.0, [0.5, 0.5]), (0.5, [300**0.5 / (300**0.5 + 10), 10 / (300**0.5 + 10)])],
)
def test_shares_by_hand(exponent: float, expected: list[float]) -> None:
    assert sampling_shares([300, 100], exponent) == pytest.approx(expected)


def test_every_way_of_sampling_is_an_exponent() -> None:
    rows = [300, 100]
    assert met().shares(rows, 0.3) == pytest.approx([0.75, 0.25])
    assert met(sampling="uniform").shares(rows, 0.3) == pytest.approx([0.5, 0.5])
    assert met(sampling="temperature", temperature=2.0).shares(rows, 0.3) == sampling_shares(rows, 0.5)
    annealed = met(sampling="annealed")
    # 1 - 0.8 (e - 1) / (E - 1): 1 in the first epoch, 0.2 in the last.
    assert annealed.shares(rows, 0.0) == pytest.approx([0.75, 0.25])
    assert annealed.shares(rows, 1.0) == pytest.approx(sampling_shares(rows, 0.2))


def test_a_loss_is_the_mean_times_the_tasks_weight() -> None:
    made = met(weights={"b": 0.25})
    assert made.loss(step_of(0, 6.0)).item() == pytest.approx(3.0)
    assert made.loss(step_of(1, 6.0)).item() == pytest.approx(0.75)


def test_a_learned_variance_weighs_the_loss_and_costs_its_logarithm() -> None:
    made = met(uncertainty=True, weights={"b": 2.0})
    ((name, variances),) = made.parameters()
    assert variances.tolist() == [0.0, 0.0] and made.rates(torch.nn.Identity())[name] > 1
    variances.data = torch.tensor([0.0, math.log(4.0)])
    # 2 (exp(-log 4) 3 + 0.5 log(4) / 2), half of the update in this micro-batch.
    loss = made.loss(step_of(1, 6.0, share=0.5))
    assert loss.item() == pytest.approx(2 * (0.75 + 0.5 * math.log(4.0) / 2))
    loss.backward()
    # d/ds of the same: 2 (-exp(-s) 3 + 0.5 / 2).
    assert variances.grad is not None
    assert variances.grad.tolist() == pytest.approx([0.0, 2 * (-0.75 + 0.25)])


@pytest.mark.parametrize(("a", "b", "expected"), [([1, 0], [2, 0], 1), ([1, 1], [-1, -1], -1), ([0, 0], [1, 0], 0)])
def test_cosine_by_hand(a: list[float], b: list[float], expected: float) -> None:
    assert cosine(torch.tensor(a).float(), torch.tensor(b).float()) == pytest.approx(expected)


def test_gradients_of_two_tasks_are_compared_in_the_blocks() -> None:
    toyed = toy.prepared({})
    made, training = met(), toyed.training
    made.setup(training)
    block = [p for name, p in training.model.named_parameters() if ".layer." in name]
    for of, size in ((0, 1.0), (1, -2.0), (0, 3.0)):
        made._of = of
        for parameter in block:
            parameter.grad = torch.full_like(parameter, size)
        made.after_step(training)
    turns, conflicts = made.end(training, dict)
    assert [row[:3] for row in turns.rows] == [["a", 2, pytest.approx(2 / 3)], ["b", 1, pytest.approx(1 / 3)]]
    # The second update against the first, the third against the second: both cosines are -1.
    assert conflicts.rows == [["a", "b", pytest.approx(-1.0), 1.0, 2]]


def test_what_it_found_goes_through_a_resume() -> None:
    first = met()
    first._updates, first._found, first._last = [3, 2], {(0, 1): [0.5]}, {1: torch.ones(2)}
    again = met()
    again.restore(first.state())
    assert again._updates == [3, 2] and again._found == {(0, 1): [0.5]} and again._last[1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "told"), [({"c": 1.0}, "no task is called 'c'"), ({"a": 0.0}, "must be more than 0")]
)
def test_a_wrong_weight_is_refused(weights: dict[str, float], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        met(weights=weights)


def test_with_one_task_it_is_supervised(tmp_path: Path) -> None:
    found = []
    for objective in ("supervised", "multi_task"):
        toyed = toy.prepared({"objective": objective, "train": {"steps": 3}})
        toy.train(toyed, tmp_path / objective)
        found.append(toy.weights(toyed))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
