"""RecAdam: the annealing by hand, the pull by hand, and that the head is left alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests import toy
from tunesmith.regularizers.recadam import Recadam, share


def test_the_annealing_by_hand() -> None:
    assert share(10, 10, 0.3) == 0.5
    assert share(14, 10, 0.5) == pytest.approx(1 / (1 + math.exp(-2)))
    assert share(0, 10, 50) == pytest.approx(0, abs=1e-12) and share(20, 10, 50) == pytest.approx(1)


def test_a_pull_by_hand() -> None:
    training = toy.prepared({"train": {"steps": 8, "learning_rate": 0.001}}).training
    part = Recadam(strength=100.0, slope=0.5, middle=0.5)
    part.setup(training)
    training.scale_rates(1.0)
    mine = share(0, 4, 0.5)
    rates = {name: group["lr"] for group in training.optimizer.param_groups for name in group["names"]}
    assert rates["bert.pooler.dense.weight"] == pytest.approx(0.001 * mine)
    assert rates["classifier.weight"] == 0.001
    before = {name: parameter.detach().clone() for name, parameter in training.model.named_parameters()}
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter += 1.0
    training.step = 1
    part.after_step(training)
    now = dict(training.model.named_parameters())
    # Each weight is 1 away: it goes back by lr (1 - a) strength.
    moved = now["bert.pooler.dense.weight"] - before["bert.pooler.dense.weight"]
    assert torch.allclose(moved, torch.full_like(moved, 1 - 0.001 * (1 - mine) * 100), atol=1e-5)
    assert torch.equal(now["classifier.weight"], before["classifier.weight"] + 1.0)
    training.scale_rates(1.0)
    rates = {name: group["lr"] for group in training.optimizer.param_groups for name in group["names"]}
    assert rates["bert.pooler.dense.weight"] == pytest.approx(0.001 * share(1, 4, 0.5))


def test_late_in_the_training_it_is_plain_adamw(tmp_path: Path) -> None:
    found = []
    for regularizers in ([], [{"name": "recadam", "slope": 1e4, "middle": 0.0}]):
        toyed = toy.prepared({"regularizers": regularizers, "train": {"steps": 4}, "speed": {"touched_rows": False}})
        before = toy.weights(toyed)
        toy.train(toyed, tmp_path / str(len(regularizers)))
        found.append(toy.weights(toyed))
    # In the first update, at the middle, half of the step is made; the rate is 0 there, as it warms up.
    assert all(torch.allclose(found[0][name], weight, atol=1e-7) for name, weight in found[1].items())
    assert not torch.equal(before["bert.pooler.dense.weight"], found[1]["bert.pooler.dense.weight"])


def test_while_the_start_weighs_most_weights_stay_there(tmp_path: Path) -> None:
    toyed = toy.prepared(
        {
            "regularizers": [{"name": "recadam", "slope": 50.0, "middle": 1.0, "strength": 1e6}],
            "train": {"steps": 4, "learning_rate": 1e-3},
        }
    )
    before = toy.weights(toyed)
    toy.train(toyed, tmp_path)
    after = toy.weights(toyed)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before if name.startswith("bert"))
    assert not torch.allclose(before["classifier.weight"], after["classifier.weight"], atol=1e-5)


def test_a_pull_beyond_the_start_is_said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level("INFO"):
        toy.train(toy.prepared({"regularizers": ["recadam"], "train": {"steps": 1, "learning_rate": 0.01}}), tmp_path)
    assert "recadam: strength 5000 times the rate 0.01 is above 1" in caplog.text
