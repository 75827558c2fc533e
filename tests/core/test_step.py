"""What a step carries: freezing in the midst of a training."""

from __future__ import annotations

from pathlib import Path

import torch

from tests import toy
from tunesmith.train import checkpoint


def test_what_freezes_leaves_the_optimizer_and_gets_no_gradient(tmp_path: Path) -> None:
    toyed = toy.prepared({"train": {"steps": 2}})
    toy.train(toyed, tmp_path)
    training = toyed.training
    name = "bert.encoder.layer.0.attention.self.query.weight"
    frozen = training.model.get_parameter(name)
    assert frozen in training.optimizer.state
    training.freeze([name])
    assert not frozen.requires_grad and frozen.grad is None
    assert frozen not in training.optimizer.state
    for group in training.optimizer.param_groups:
        assert name not in group["names"] and len(group["names"]) == len(group["params"])
        assert all(parameter is not frozen for parameter in group["params"])
    # It was trained: a checkpoint must hold it.
    assert torch.equal(checkpoint.weights(training)[name], frozen)
