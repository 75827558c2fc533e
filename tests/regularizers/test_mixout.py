"""Mixout against its formula, with a fixed mask; what it does to a model, and what not."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from tests import toy
from tunesmith.core import anatomy
from tunesmith.regularizers.mixout import Mixout, mixed


def test_the_formula_with_a_fixed_mask() -> None:
    torch.manual_seed(0)
    w, w0 = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    kept, share = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64), 0.3
    expected = (kept * w + (1 - kept) * w0 - share * w0) / (1 - share)
    assert torch.allclose(mixed(w, w0, kept, share), expected)
    assert torch.equal(mixed(w, w0, kept, share)[:, 1], w0[:, 1])


def test_the_mean_over_masks_is_the_weight() -> None:
    torch.manual_seed(0)
    w, w0 = torch.randn(4, 5), torch.randn(4, 5)
    masks = (torch.rand(20_000, 1, 5) >= 0.4).float()
    mean = torch.stack([mixed(w, w0, mask, 0.4) for mask in masks]).mean(0)
    assert torch.allclose(mean, w, atol=0.05)


def test_from_zero_it_is_dropout_of_the_inputs() -> None:
    torch.manual_seed(0)
    w, x = torch.randn(4, 5), torch.randn(7, 5)
    kept = (torch.rand(1, 5) >= 0.5).float()
    assert torch.allclose(x @ mixed(w, torch.zeros_like(w), kept, 0.5).t(), (x * kept / 0.5) @ w.t(), atol=1e-6)


@pytest.mark.parametrize("model", toy.BACKBONES)
@pytest.mark.parametrize("each", [False, True])
def test_at_the_start_every_mask_gives_the_backbone(model: str, each: bool) -> None:
    toyed = toy.prepared({"model": model})
    batch = next(toyed.batches.stream(0)).batches[0]
    made = toyed.training.model.eval()
    with torch.no_grad():
        expected = made(**batch.inputs).logits
        Mixout(share=0.5, each=each).setup(toyed.training)
        toy.quiet(made)
        assert torch.allclose(made.train()(**batch.inputs).logits, expected, atol=1e-5)
        for parameter in anatomy.backbone(made).parameters():
            parameter += 0.1
        assert not torch.allclose(made(**batch.inputs).logits, made(**batch.inputs).logits, atol=1e-5)
        assert torch.equal(made.eval()(**batch.inputs).logits, made(**batch.inputs).logits)


def test_whole_input_features_are_mixed() -> None:
    training = toy.prepared({}).training
    Mixout(share=0.5).setup(training)
    path, module = next(iter(anatomy.linears(training.model).items()))
    with torch.no_grad():
        module.weight += 1.0
        x = torch.eye(module.weight.shape[1])
        out = module.train()(x) - module.bias  # [in, out]: the mixed weight, transposed
        start = training.start.weights[f"{path}.weight"].t()
    mixed_rows = torch.isclose(out, start, atol=1e-5).all(dim=1)
    kept_rows = torch.isclose(out, start + 2.0, atol=1e-5).all(dim=1)
    assert bool((mixed_rows ^ kept_rows).all()) and bool(mixed_rows.any()) and bool(kept_rows.any())


def test_the_gradient_is_that_of_the_formula() -> None:
    w = torch.ones(1, 2, requires_grad=True)
    mixed(w, torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), 0.5).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [[2.0, 0.0]]


def test_a_copy_of_the_model_mixes_its_own_weights() -> None:
    training = toy.prepared({}).training
    Mixout(share=0.5).setup(training)
    twin = copy.deepcopy(training.model)
    path = next(iter(anatomy.linears(twin)))
    x = torch.ones(1, twin.get_submodule(path).in_features)
    with torch.no_grad():
        twin.get_submodule(path).weight.zero_()
        assert torch.equal(twin.eval().get_submodule(path)(x)[0], twin.get_submodule(path).bias)
        assert not torch.equal(training.model.eval().get_submodule(path)(x), twin.get_submodule(path)(x))


def test_it_stands_in_the_place_of_dropout(tmp_path: Path) -> None:
    toyed = toy.prepared({"regularizers": [{"name": "mixout", "share": 0.5}], "train": {"steps": 2}})
    before = toy.weights(toyed)
    toy.train(toyed, tmp_path)
    model = toyed.training.model
    dropouts = [m.p for m in anatomy.backbone(model).modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts and set(dropouts) == {0.0}
    assert set(toy.weights(toyed)) == set(before)
    assert not torch.equal(before["bert.pooler.dense.weight"], toy.weights(toyed)["bert.pooler.dense.weight"])


def test_a_delta_leaves_nothing_to_mix() -> None:
    training = toy.prepared({"method": "lora"}).training
    Mixout(share=0.5).setup(training)
    assert all("forward" not in vars(module) for module in training.model.modules())
