"""L2-SP: the penalty by hand, what it pulls where, and that it is counted once an update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith.core import surgery
from tunesmith.core.step import Step
from tunesmith.prepare import Prepared
from tunesmith.regularizers.l2_sp import L2Sp, squared_distance
from tunesmith.train.log import lines


def test_half_of_the_squared_distance_by_hand() -> None:
    pairs = [(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])), (torch.tensor([[3.0]]), None)]
    assert squared_distance(pairs).item() == pytest.approx((1 + 4 + 9) / 2)
    assert squared_distance([]).item() == 0


def penalty(toyed: Prepared, share: float = 1.0, **settings: float) -> torch.Tensor:
    part = L2Sp(**settings)
    part.setup(toyed.training)
    step: Any = Step(toyed.training.model, toyed.recipe.task, None, share=share)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in surgery.trained(toyed.training.model).values():
            parameter += 0.5
    found = part.loss(step)
    assert found is not None
    return found


def test_the_backbone_is_pulled_to_its_start() -> None:
    toyed = toy.prepared({})
    body = sum(p.numel() for name, p in toyed.training.model.named_parameters() if not name.startswith("classifier"))
    # Every weight moved by 1/2: strength / 2 * n / 4.
    assert penalty(toyed, strength=0.2, head=0.0).item() == pytest.approx(0.2 * body / 8, rel=1e-5)
    toyed = toy.prepared({})
    assert penalty(toyed, share=0.25, strength=0.2, head=0.0).item() == pytest.approx(0.2 * body / 32, rel=1e-5)


def test_the_head_is_pulled_to_zero() -> None:
    toyed = toy.prepared({})
    head = [p for name, p in toyed.training.model.named_parameters() if name.startswith("classifier")]
    found = penalty(toyed, strength=0.0, head=0.3)
    assert found.item() == pytest.approx(0.3 / 2 * sum((p**2).sum().item() for p in head), rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "head_only"])
def test_a_delta_has_no_start_to_be_pulled_to(method: str) -> None:
    toyed = toy.prepared({"method": method})
    inserted = list(surgery.trained(toyed.training.model).values())
    # Inserted modules are new, as the head is: only the pull towards zero acts.
    found = penalty(toyed, strength=5.0, head=0.3)
    assert found.item() == pytest.approx(0.3 / 2 * sum((p**2).sum().item() for p in inserted), rel=1e-5)


def test_its_gradient_is_the_distance() -> None:
    toyed = toy.prepared({})
    penalty(toyed, strength=0.2, head=0.1).backward()
    model = toyed.training.model
    query = model.get_parameter("bert.encoder.layer.0.attention.self.query.weight")
    assert query.grad is not None
    assert torch.allclose(query.grad, torch.full_like(query, 0.2 * 0.5), atol=1e-6)
    assert torch.allclose(model.classifier.weight.grad, 0.1 * model.classifier.weight, atol=1e-6)


@pytest.mark.parametrize("micro", [1, 2, 8])
def test_it_is_counted_once_an_update(micro: int, tmp_path: Path) -> None:
    toyed = toy.prepared({"regularizers": ["l2_sp"], "train": {"steps": 1, "batch_size": 8, "micro_batch_size": micro}})
    head = [p.detach().clone() for p in toyed.training.model.classifier.parameters()]
    toy.train(toyed, tmp_path)
    expected = 0.01 / 2 * sum((p**2).sum().item() for p in head)
    assert lines(tmp_path / "metrics.jsonl")[1]["losses"]["l2_sp"] == pytest.approx(expected, rel=1e-4)


def test_a_strong_pull_keeps_the_weights_near(tmp_path: Path) -> None:
    moved = []
    for strength in (0.0, 100.0):
        toyed = toy.prepared(
            {
                "regularizers": [{"name": "l2_sp", "strength": strength, "head": 0.0}],
                "train": {"steps": 15, "learning_rate": 0.01, "weight_decay": 0.0},
            }
        )
        before = toy.weights(toyed)
        toy.train(toyed, tmp_path / str(strength))
        after = toy.weights(toyed)
        moved.append(sum(((after[name] - before[name]) ** 2).sum().item() for name in before if "bert" in name))
    assert moved[1] < moved[0] / 10
