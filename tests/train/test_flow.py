"""How much gradient reaches each place: by hand, and in a run's record."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import toy
from tunesmith.train import clip
from tunesmith.train.adamw import AdamW
from tunesmith.train.flow import Flow
from tunesmith.train.log import lines

PLACES = ["embeddings", "block 1", "block 2", "above the blocks", "head"]


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder / "metrics.jsonl") if line["event"] == "step"]


def test_a_place_has_the_norm_of_all_its_gradients() -> None:
    model = toy.prepared({}).training.model
    named = dict(model.named_parameters())
    beside = nn.Parameter(torch.zeros(1))
    beside.grad = torch.full((1,), 2.0)
    for name, value in {"query.weight": 3.0, "query.bias": 4.0}.items():
        parameter = named[f"bert.encoder.layer.1.attention.self.{name}"]
        parameter.grad = torch.zeros_like(parameter)
        parameter.grad.view(-1)[0] = value
    norms = clip.norms(AdamW([*named.values(), beside]))
    expected = {"embeddings": None, "block 1": None, "block 2": 5.0, "above the blocks": None, "head": None}
    assert Flow(model).of(norms) == {**expected, "parts": 2.0}
    assert Flow(model).of(norms, 2.0)["block 2"] == 10.0
    assert Flow(model).of({}) == {**expected, "block 2": None}


@pytest.mark.parametrize("speed", ["plain", "auto"])
def test_the_record_tells_them_on_logged_steps(tmp_path: Path, speed: str) -> None:
    toyed = toy.prepared({"speed": speed, "train": {"steps": 3, "log_every": 2, "clip": 1e-3}})
    assert toy.train(toyed, tmp_path)
    told = steps(tmp_path)
    assert [line["step"] for line in told] == [2, 3]
    for line in told:
        assert list(line["gradients"]) == PLACES
        # Whole, before the clipping, with the rows of word embeddings that alone were touched.
        size = math.sqrt(sum(value**2 for value in line["gradients"].values() if value is not None))
        assert size == pytest.approx(line["gradient_norm"], rel=1e-5)


def test_frozen_places_have_none(tmp_path: Path) -> None:
    assert toy.train(toy.prepared({"method": "head_only", "train": {"steps": 1}}), tmp_path)
    (told,) = steps(tmp_path)
    assert [place for place, value in told["gradients"].items() if value is not None] == ["head"]


def test_gradients_that_were_scaled_down_are_told_whole() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    size = float(nn.utils.clip_grad_norm_([weight], 0.5))
    assert float(weight.grad.norm()) * clip.undone(size, 0.5) == pytest.approx(5.0)
    assert clip.undone(0.25, 0.5) == 1.0
