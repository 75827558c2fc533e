"""Checkpoints: bit-equal, two kept, a damaged one passed over, and never a half one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import PrivateAttr
from torch import Tensor, nn

from tests import toy
from tunesmith.core.errors import RunFolderError
from tunesmith.core.part import Part
from tunesmith.prepare import Prepared
from tunesmith.train import checkpoint

EXTRA: dict[str, Any] = {"best": False, "cut": 0, "stop": "", "scaler": None}


class Remembers(Part):
    """A part with a tensor that trains, one that doesn't, and a number."""

    _own: nn.Parameter = PrivateAttr(default_factory=lambda: nn.Parameter(torch.zeros(2)))
    _kept: Tensor = PrivateAttr(default_factory=lambda: torch.zeros(3))
    _count: int = PrivateAttr(default=0)

    def fill(self, value: float) -> Remembers:
        self._own.data.fill_(value)
        self._kept = torch.full((3,), value)
        self._count = int(value)
        return self

    def seen(self) -> tuple[list[float], list[float], int]:
        return self._own.tolist(), self._kept.tolist(), self._count

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Two numbers."""
        return [("own", self._own)]

    def state(self) -> dict[str, Any]:
        """The rest."""
        return {"kept": self._kept, "count": self._count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The rest."""
        assert set(state) == {"kept", "count"}
        self._kept, self._count = state["kept"], state["count"]


def trained(tmp_path: Path, **values: Any) -> Prepared:
    """A toy with weights and moments that are no longer those of the start."""
    toyed = toy.prepared({"train": {"steps": 3, "learning_rate": 0.01}, **values})
    toy.train(toyed, tmp_path / "elsewhere" / toyed.recipe.method.word())
    return toyed


@pytest.mark.parametrize("method", ["full", "lora"])
def test_everything_comes_back_bit_equal(method: str, tmp_path: Path) -> None:
    toyed = trained(tmp_path, method=method)
    path = checkpoint.save(tmp_path, toyed.training, [], EXTRA)
    expected_random = torch.rand(3)
    other = toy.prepared({"method": method, "train": {"steps": 3, "seed": 7}})
    state = checkpoint.load(path, other.training, [])
    assert torch.equal(torch.rand(3), expected_random)
    assert other.training.step == state["step"] == 3 and state["total_steps"] == 3
    found = checkpoint.weights(other.training)
    assert all(torch.equal(found[name], tensor) for name, tensor in checkpoint.weights(toyed.training).items())
    ours, theirs = toyed.training.optimizer.state_dict(), other.training.optimizer.state_dict()
    # JSON has no tuples: the moments' rates come back as a list.
    assert json.dumps(ours["param_groups"]) == json.dumps(theirs["param_groups"])
    assert ours["state"].keys() == theirs["state"].keys()
    for number, values in ours["state"].items():
        assert all(torch.equal(theirs["state"][number][key], value) for key, value in values.items())


def test_a_delta_method_saves_only_what_trains(tmp_path: Path) -> None:
    sizes = {}
    for method in ("full", "head_only"):
        path = checkpoint.save(tmp_path / method, trained(tmp_path, method=method).training, [], EXTRA)
        sizes[method] = (path / checkpoint.TENSORS).stat().st_size
    assert sizes["head_only"] < sizes["full"] / 10


def test_parts_come_back_also_one_that_stands_twice(tmp_path: Path) -> None:
    toyed = toy.prepared({})
    path = checkpoint.save(tmp_path, toyed.training, [Remembers().fill(1), Remembers().fill(2)], EXTRA)
    again = [Remembers(), Remembers()]
    checkpoint.load(path, toyed.training, again)
    assert [part.seen() for part in again] == [([1, 1], [1, 1, 1], 1), ([2, 2], [2, 2, 2], 2)]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    training = toy.prepared({"method": "head_only"}).training
    for step in (1, 5, 90, 1000):
        training.step = step
        checkpoint.save(tmp_path, training, [], EXTRA)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["step-00000090", "step-00001000"]
    assert checkpoint.last_whole(tmp_path) == tmp_path / "step-00001000"
    assert checkpoint.last_whole(tmp_path / "none") is None


def two(folder: Path) -> list[Path]:
    training = toy.prepared({"method": "head_only"}).training
    made = []
    for training.step in (1, 2):
        made.append(checkpoint.save(folder, training, [], EXTRA))
    return made


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.STATE, checkpoint.CHECKSUMS])
def test_a_damaged_one_is_said_and_passed_over(
    name: str, damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two(tmp_path)
    damage(second / name)
    with caplog.at_level(logging.WARNING, "tunesmith"):
        assert checkpoint.last_whole(tmp_path) == first
    assert f"The checkpoint {second} is damaged" in caplog.text
    damage(first / name)
    with pytest.raises(RunFolderError, match=r"No checkpoint in .* is whole(.|\n)*in a new folder"):
        checkpoint.last_whole(tmp_path)


def test_a_write_that_fails_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = two(tmp_path)
    training = toy.prepared({"method": "head_only"}).training
    training.step = 3

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, training, [], EXTRA)
    assert checkpoint.found(tmp_path) == made
    assert sorted(tmp_path.iterdir()) == made


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    made = two(tmp_path)
    (tmp_path / ".tmp-x").mkdir()
    checkpoint.last_whole(tmp_path)
    assert sorted(tmp_path.iterdir()) == made


def test_the_best_weights_come_back_bit_equal(tmp_path: Path) -> None:
    toyed = trained(tmp_path)
    before = toy.weights(toyed)
    name = checkpoint.save_best(tmp_path, toyed.training)
    with torch.no_grad():
        for parameter in toyed.training.model.parameters():
            parameter.add_(1)
    checkpoint.restore_best(tmp_path, name, toyed.training)
    assert all(torch.equal(before[name], tensor) for name, tensor in toy.weights(toyed).items())


def test_best_weights_stay_as_long_as_a_checkpoint_names_them(tmp_path: Path) -> None:
    training = toy.prepared({"method": "head_only"}).training
    best = ""
    for training.step in range(1, 7):
        if training.step in (1, 4):
            best = checkpoint.save_best(tmp_path, training)
        checkpoint.save(tmp_path, training, [], EXTRA | {"best": best})
        there = {path.name for path in tmp_path.glob("best-*")}
        assert there == ({"best-00000001", "best-00000004"} if training.step == 4 else {best})
