"""A difference gives every bit back, or the best matrices of its rank; damage is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tunesmith.core import difference, sharing
from tunesmith.core.errors import ModelError, RunFolderError
from tunesmith.models.builtin import tiny_configs


def bert(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(tiny_configs()["tiny-bert"])


def moved(size: float = 1e-3) -> PreTrainedModel:
    """The model with a matrix of rank 2 added to one, a vector moved, and another head."""
    model, made = bert(), torch.Generator().manual_seed(1)
    weight = model.bert.encoder.layer[0].attention.self.query.weight
    with torch.no_grad():
        weight += size * torch.randn(32, 2, generator=made) @ torch.randn(2, 32, generator=made)
        model.bert.pooler.dense.bias += size * torch.randn(32, generator=made)
        model.classifier.weight += 1
    return model


def equal(first: PreTrainedModel, second: PreTrainedModel) -> bool:
    there = sharing.named(second)
    return all(sharing.same_bits(tensor, there[name]) for name, tensor in sharing.named(first).items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", [(7, 5), (), (0, 3), (300,)])
def test_packing_gives_every_bit_back(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    made = torch.Generator().manual_seed(0)
    base = (100 * torch.randn(shape, generator=made)).to(dtype)
    near = base + torch.ones(shape, dtype=dtype)
    if dtype.is_floating_point and near.numel() > 4:
        near.reshape(-1)[:4] = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-40], dtype=dtype)
    for against in (base, None):
        packed = difference.pack(near, against)
        assert packed.dtype == torch.uint8
        assert sharing.same_bits(difference.unpack(packed, against, base), near)


def test_near_tensors_are_packed_small() -> None:
    base = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    near = base * (1 + 1e-5)
    assert difference.pack(near, base).numel() < 0.5 * difference.pack(near, None).numel()
    assert difference.pack(base, base).numel() < 1000


def test_an_exact_difference_is_exact_and_leaves_out_what_is_the_same(tmp_path: Path) -> None:
    model, base = moved(), bert()
    assert difference.write(model, base, tmp_path, None) == 0.0
    told = json.loads((tmp_path / difference.TOLD).read_text())["tensors"]
    assert {name: one["way"] for name, one in told.items()} == {
        "encoder.layer.0.attention.self.query.weight": "bits",
        "pooler.dense.bias": "bits",
        "classifier.weight": "whole",
        "classifier.bias": "whole",
    }
    assert difference.there(tmp_path)
    other_head = bert()
    torch.nn.init.normal_(other_head.classifier.weight)
    difference.read(other_head, tmp_path)
    assert equal(model, other_head)


def test_low_rank_is_the_best_of_its_rank(tmp_path: Path) -> None:
    model, base = moved(), bert()
    assert difference.write(model, base, tmp_path, 2) < 1e-5
    found = bert()
    difference.read(found, tmp_path)
    ours, theirs = found.bert.encoder.layer[0].attention.self.query, model.bert.encoder.layer[0].attention.self.query
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-7) and not torch.equal(ours.weight, theirs.weight)
    assert torch.equal(found.bert.pooler.dense.bias, model.bert.pooler.dense.bias)
    assert torch.equal(found.classifier.weight, model.classifier.weight)
    # Eckart and Young: the error of rank 1 is the second singular value.
    change = theirs.weight - base.bert.encoder.layer[0].attention.self.query.weight
    values = torch.linalg.svdvals(change.detach())
    bias = (model.bert.pooler.dense.bias - base.bert.pooler.dense.bias).square().sum()
    expected = values[1] / (values.square().sum() + bias).sqrt()
    (tmp_path / "one").mkdir()
    assert difference.write(model, base, tmp_path / "one", 1) == pytest.approx(expected.item(), rel=1e-3)


def test_ranks_that_no_matrix_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="rank 33 is too large: the changed matrices have at most 32"):
        difference.write(moved(), bert(), tmp_path, 33)
    with pytest.raises(ModelError, match="no matrix of the backbone has changed"):
        difference.write(bert(), bert(), tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told_before_a_tensor_is_touched(tmp_path: Path) -> None:
    difference.write(moved(), bert(), tmp_path, None)
    told, file = tmp_path / difference.TOLD, tmp_path / difference.FILE
    whole, tensors, words = file.read_bytes(), load_file(file), told.read_text()
    name = "pooler.dense.bias"
    found = bert()

    def refused(kind: type[Exception], match: str) -> None:
        with pytest.raises(kind, match=match):
            difference.read(found, tmp_path)
        assert equal(found, bert())

    file.write_bytes(whole[:-40])
    refused(ModelError, "is damaged")
    bad = tensors[name].clone()
    bad[len(bad) // 2] ^= 255
    for wrong in ({name: bad}, {name: tensors["classifier.bias"].clone()}, {name: torch.zeros(0, dtype=torch.uint8)}):
        save_file({**tensors, **wrong}, file)
        refused(ModelError, rf"safetensors is damaged: {name}")
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, file)
    refused(ModelError, rf"is damaged: {name}")
    file.unlink()
    refused(ModelError, "has no difference.safetensors")
    file.write_bytes(whole)
    told.write_text(words.replace("pooler.dense.bias", "pooler.dense.other"))
    refused(ModelError, "the model has no pooler.dense.other")
    told.write_text(words.replace("float32", "bfloat16", 1))
    refused(ModelError, "is bfloat16 .* the model asks for float32")
    for text in ("{", "{}", '{"tensors": {"x": {"way": "bits"}}}', '{"tensors": 3}'):
        told.write_text(text)
        refused(RunFolderError, "is damaged")
    told.unlink()
    refused(RunFolderError, "is missing")
    assert difference.there(tmp_path)
