"""BSS against numpy's singular values, and what it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import toy
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Batch
from tunesmith.regularizers.bss import Bss, one_each, smallest_squared
from tunesmith.train.log import lines


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (1, 5)])
@pytest.mark.parametrize("count", [1, 2])
def test_the_penalty_is_that_of_numpys_svd(shape: tuple[int, int], count: int) -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    values = np.linalg.svd(features.numpy(), compute_uv=False)  # the largest first
    assert smallest_squared(features, count).item() == pytest.approx((values[-count:] ** 2).sum(), rel=1e-4)


def test_of_a_diagonal_by_hand() -> None:
    assert smallest_squared(torch.diag(torch.tensor([3.0, 1.0, 2.0])), 2).item() == pytest.approx(1 + 4)


def test_with_all_values_it_is_the_squared_norm() -> None:
    features = torch.randn(4, 6)
    assert smallest_squared(features, 4).item() == pytest.approx((features**2).sum().item(), rel=1e-5)


def test_rotations_and_the_order_of_rows_change_nothing() -> None:
    torch.manual_seed(0)
    features = torch.randn(5, 8)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8))
    expected = smallest_squared(features, 2).item()
    assert smallest_squared(features @ rotation, 2).item() == pytest.approx(expected, rel=1e-4)
    assert smallest_squared(features[[4, 2, 0, 1, 3]], 2).item() == pytest.approx(expected, rel=1e-4)


def test_its_gradient_is_right() -> None:
    torch.manual_seed(0)
    features = torch.randn(4, 6, requires_grad=True)
    smallest_squared(features, 1).backward()
    nudged = features.detach().clone()
    nudged[1, 2] += 1e-3
    difference = (smallest_squared(nudged, 1) - smallest_squared(features.detach(), 1)).item() / 1e-3
    assert features.grad is not None and features.grad[1, 2].item() == pytest.approx(difference, abs=5e-3)


@pytest.mark.parametrize("model", toy.BACKBONES)
def test_it_is_added_to_the_loss_in_its_share(model: str, tmp_path: Path) -> None:
    found = []
    for micro in (4, 2):
        toyed = toy.prepared(
            {"model": model, "regularizers": ["bss"], "train": {"steps": 1, "micro_batch_size": micro}}
        )
        assert toy.train(toyed, tmp_path / str(micro))
        found.append(lines(tmp_path / str(micro) / "metrics.jsonl")[1]["losses"]["bss"])
    assert all(value > 0 for value in found)


def test_one_vector_an_example() -> None:
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    batch = Batch({"attention_mask": mask}, {"targets": torch.tensor([0, 1])}, rows=[0, 1])
    scores = torch.zeros(2, 5)
    found = one_each(states, batch, scores)
    assert found is not None and found.tolist() == [[2.0, 3.0], [10.0, 11.0]]
    assert one_each(states[:, 0], batch, scores) is not None
    assert one_each(states.flatten(0, 1), batch, scores) is None
    assert one_each(states, batch, torch.zeros(2, 3, 5)) is None


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(RecipeError, match="has none"):
        toy.prepared({"task": {"name": "fill"}, "regularizers": ["bss"]})


def test_an_answer_a_token_is_refused(tmp_path: Path) -> None:
    toyed = toy.prepared({"task": {"name": "tag"}, "regularizers": ["bss"], "train": {"steps": 1}})
    with pytest.raises(RecipeError, match="bss needs one vector an example"):
        toy.train(toyed, tmp_path)


def test_nothing_is_watched_at_strength_0() -> None:
    training = toy.prepared({}).training
    Bss(strength=0.0).setup(training)
    assert not training.model.classifier._forward_pre_hooks
