"""What changed in the weights: sizes and directions by hand, wrapped layers, and other tensors."""

from __future__ import annotations

import copy
import math
from typing import cast

import pytest
import torch
from torch import nn

from tests import toy
from tunesmith import prepare
from tunesmith.core import surgery
from tunesmith.core.linear import weight_of
from tunesmith.core.surgery import LowRank
from tunesmith.evaluate import changes

QUERY = "bert.encoder.layer.1.attention.self.query"


def test_effective_rank_by_hand() -> None:
    assert changes.effective_rank(torch.ones(4)) == pytest.approx(4)
    assert changes.effective_rank(torch.tensor([2.0, 0.0])) == pytest.approx(1)
    # -(3/4 log 3/4 + 1/4 log 1/4) = 0.5623
    assert changes.effective_rank(torch.tensor([3.0, 1.0])) == pytest.approx(math.exp(0.56233514))
    assert changes.effective_rank(torch.zeros(3)) == 0


def test_a_product_has_the_singular_values_of_the_whole_matrix() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 20, generator=draw), torch.randn(12, 3, generator=draw)
    values = changes.of_product(LowRank(a, b, -2.0, 0.0))
    torch.testing.assert_close(values, torch.linalg.svdvals(-2 * b @ a)[:3], rtol=1e-4, atol=1e-4)


def test_a_matrix_that_changed_in_one_direction() -> None:
    before = toy.prepared({}).backbone.model
    now = copy.deepcopy(before)
    linear = cast(nn.Linear, now.get_submodule(QUERY))
    linear.weight.data += 0.5 * torch.outer(torch.ones(32) / math.sqrt(32), torch.ones(32) / math.sqrt(32))
    found, foreign = changes.of_matrices(before, now)
    assert not foreign and len(found) == 12  # two blocks of six
    (one,) = [change for change in found if change.size]
    assert (one.path, one.role) == (QUERY, "query")
    assert one.size == pytest.approx(0.5, rel=1e-4)
    assert one.relative == pytest.approx(0.5 / weight_of(before.get_submodule(QUERY)).norm().item(), rel=1e-4)
    assert one.values is not None and changes.effective_rank(one.values) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("backbone", ["builtin:tiny-bert", "builtin:tiny-gpt2"])
def test_a_low_rank_delta_is_its_merged_difference(backbone: str) -> None:
    toyed = toy.prepared({"model": backbone, "method": {"name": "lora", "rank": 2}})
    before, now = prepare.load_backbone(toyed.recipe).model, toyed.backbone.model
    wrappers = surgery.wrappers(now)
    for wrapper in wrappers.values():
        cast(torch.Tensor, wrapper.lora_B).data.normal_(std=0.1)
    found = {change.path: change for change in changes.of_matrices(before, now)[0] if change.size}
    assert set(found) == set(wrappers)
    for path, wrapper in wrappers.items():
        difference = weight_of(wrapper.merged()) - weight_of(before.get_submodule(path))
        values = found[path].values
        assert values is not None and len(values) == 2
        assert found[path].size == pytest.approx(difference.norm().item(), rel=1e-4)
        torch.testing.assert_close(values, torch.linalg.svdvals(difference)[:2], rtol=1e-3, atol=1e-5)


def test_what_is_put_beside_weights_changes_none() -> None:
    toyed = toy.prepared({"method": "bottleneck"})
    before = prepare.load_backbone(toyed.recipe).model
    found, foreign = changes.of_matrices(before, toyed.backbone.model)
    assert len(found) == 12 and not foreign and not any(change.size for change in found)


def test_layers_of_another_library_are_told() -> None:
    toyed = toy.prepared({"method": "peft"})
    before = prepare.load_backbone(toyed.recipe).model
    _, foreign = changes.of_matrices(before, toyed.backbone.model)
    assert QUERY in foreign


def test_tensors_by_kind() -> None:
    before = toy.prepared({}).backbone.model
    now = copy.deepcopy(before)
    cast(nn.Linear, now.get_submodule(QUERY)).bias.data += 2.0
    cast(nn.Linear, now.get_submodule("classifier")).weight.data += 1.0  # the head has no start
    found = {one.kind: one for one in changes.of_kinds(before, now)}
    assert {kind: one.changed for kind, one in found.items() if one.changed} == {"biases": 1}
    assert found["biases"].size == pytest.approx(4 * 32)
    assert found["matrices of the blocks"].tensors == 12
    assert found["embeddings"].tensors == 3  # words, positions, kinds of text
    every = sum(one.tensors for one in found.values())
    assert every == sum(not name.startswith("classifier") for name, _ in before.named_parameters())
