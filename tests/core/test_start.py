"""The starting weights: what has one, how they are kept."""

from __future__ import annotations

import pytest
import torch

from tests import toy
from tunesmith.core.start import Start


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "disk"])
def test_the_start_stays_when_weights_move(kind: str) -> None:
    model = toy.prepared({}).training.model
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    start = Start.of(model, kind)
    assert list(start.fresh) == ["classifier.weight", "classifier.bias"]
    assert set(start.weights) == set(before) - set(start.fresh)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    for name, weight, kept in start.pairs(model):
        exact = before[name].bfloat16().float() if kind == "bfloat16" else before[name]
        assert torch.equal(kept.float(), exact)
        assert torch.equal(weight, before[name] + 1)


@pytest.mark.parametrize("method", ["lora", "head_only", "prefix"])
def test_a_method_that_leaves_the_backbone_has_nothing_to_keep(method: str) -> None:
    training = toy.prepared({"method": method}).training
    assert training.start.weights == {}
    assert set(training.start.fresh) == set(training.trained)


def test_it_is_made_once() -> None:
    training = toy.prepared({"model": {"name": "builtin:tiny-bert", "start": "bfloat16"}}).training
    assert training.start is training.start
    assert {tensor.dtype for tensor in training.start.weights.values()} == {torch.bfloat16}


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_a_twin_has_memory_for_what_trains_alone(method: str) -> None:
    training = toy.prepared({"method": method}).training
    twin = training.start.twin(training.model)
    mine, its = dict(training.model.named_parameters()), dict(twin.named_parameters())
    assert all((its[name].data_ptr() == mine[name].data_ptr()) != mine[name].requires_grad for name in mine)
    assert not any(parameter.requires_grad for parameter in its.values()) and not twin.training


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "disk"])
def test_a_twin_lies_in_the_start_where_that_is_exact(kind: str) -> None:
    training = toy.prepared({"model": {"name": "builtin:tiny-bert", "start": kind}}).training
    twin, start = training.start.twin(training.model), training.start.weights
    for name, parameter in twin.named_parameters():
        assert torch.equal(parameter, training.model.get_parameter(name))
        shared = name in start and parameter.data_ptr() == start[name].data_ptr()
        assert shared is (name in start and kind != "bfloat16")
