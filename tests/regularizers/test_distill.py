"""Distillation: the divergence by hand, nothing at the start, and what it is measured on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests import toy
from tests.before import fills, stage
from tunesmith.core import surgery
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Step
from tunesmith.regularizers.distill import divergence
from tunesmith.train.log import lines


def test_the_divergence_of_two_classes_by_hand() -> None:
    now, before, temperature = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 2.0
    p = 1 / (1 + math.exp(2 / 2))  # of the first class before
    q = 1 / (1 + math.exp(-1 / 2))  # now
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert divergence(now, before, temperature).item() == pytest.approx(4 * expected, rel=1e-5)
    assert divergence(now, now, temperature).item() == pytest.approx(0, abs=1e-7)


def test_it_needs_answers_to_stay_close_to() -> None:
    with pytest.raises(RecipeError, match="distill: the head of this task is new"):
        toy.prepared({"regularizers": ["distill"]})


@pytest.mark.parametrize("method", ["full", "lora", "bitfit"])
def test_nothing_at_the_start_and_something_later(method: str) -> None:
    toyed = stage({"method": method, "regularizers": ["distill"]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    toy.quiet(toyed.training.model)
    batch = next(toyed.batches.stream(0)).batches[0]
    step = Step(toyed.training.model.train(), toyed.recipe.task, batch)
    found = part.loss(step)
    assert found is not None and found.item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for parameter in surgery.trained(toyed.training.model).values():
            parameter += 2 * torch.randn_like(parameter)
    found = part.loss(step)
    assert found is not None and found.item() > 1e-5 and found.requires_grad


def test_without_a_copy_where_the_backbone_stays() -> None:
    toyed = stage({"method": "lora", "regularizers": ["distill"]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    assert part._before.model is toyed.training.model  # type: ignore[attr-defined]
    toyed = stage({"regularizers": ["distill"]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    assert part._before.model is not toyed.training.model  # type: ignore[attr-defined]


def test_a_strong_one_keeps_the_old_answers(tmp_path: Path) -> None:
    found = []
    for strength in (0.0, 100.0):
        values = {
            "regularizers": [{"name": "distill", "strength": strength}],
            "train": {"steps": 15, "learning_rate": 3e-3},
        }
        toyed = stage(values)
        probe = next(toyed.batches.stream(0)).batches[0]
        assert toyed.training.world is not None
        head = toyed.training.world.earlier[0].shell
        assert head is not None
        model = head(toyed.training.model.base_model)

        def answers(model: torch.nn.Module = model) -> torch.Tensor:
            toyed.training.model.eval()  # noqa: B023
            with torch.no_grad():
                told: torch.Tensor = model(**probe.inputs).logits.softmax(-1)  # noqa: B023
            return told

        before = answers()
        toy.train(toyed, tmp_path / str(strength))
        found.append((answers() - before).abs().mean().item())
    assert found[1] < found[0] / 2


def test_a_language_model_stays_close_to_itself(tmp_path: Path) -> None:
    toyed = fills(tmp_path, {"name": "distill"})
    assert toy.train(toyed, tmp_path / "run")
    losses = [line["losses"] for line in lines(tmp_path / "run" / "metrics.jsonl") if line["event"] == "step"]
    assert losses and all(one["distill"] >= 0 for one in losses)
