"""The range test: a rate with its reason, and nothing left behind."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import toy
from tunesmith import cli
from tunesmith.core.errors import RecipeError
from tunesmith.find_rate import find_rate
from tunesmith.recipe import Recipe, from_values


def recipe(tmp_path: Path, **more: object) -> Recipe:
    return from_values(
        {
            "model": "builtin:tiny-bert",
            "data": {"train": str(toy.write_csv(tmp_path / "rows.csv")), "near_duplicates": False},
            "train": {"batch_size": 16, "device": "cpu", "precision": "float32"},
            **more,
        }
    )


def test_it_names_a_rate_that_trains(tmp_path: Path) -> None:
    found = find_rate(recipe(tmp_path), updates=200)
    assert found.rate is not None and 1e-5 < found.rate < 0.3
    assert len(found.rates) == len(found.losses) <= 200
    assert found.rates[0] == 1e-6 and sorted(found.rates) == found.rates
    assert found.told() == f"train.learning_rate={found.rate:.1e}: {found.reason}."
    assert found.as_json()["learning_rate"] == found.rate


def test_nothing_stays(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    before = sorted(tmp_path.iterdir())
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    first = find_rate(given, updates=12)
    assert sorted(tmp_path.iterdir()) == before
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    assert (np.random.get_state()[1] == states[2]).all()
    assert find_rate(given, updates=12).losses == first.losses


def test_rates_of_layers_stay_apart(tmp_path: Path) -> None:
    plain = find_rate(recipe(tmp_path), updates=12)
    layered = find_rate(recipe(tmp_path, schedules=[{"name": "layerwise", "factor": 0.1}]), updates=12)
    assert plain.losses != layered.losses and plain.losses[0] == layered.losses[0]


def test_too_few_updates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="3 updates tell nothing; it takes 10 at least"):
        find_rate(recipe(tmp_path), updates=3)


def test_the_command_shows_the_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    given = ["find-rate", str(rows), "--model", "builtin:tiny-bert", "--updates", "12", "--set", "train.device=cpu"]
    page = tmp_path / "rates.html"
    assert cli.main([*given, "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "Loss by learning rate" in shown and "█" in shown
    assert "Loss by learning rate" in page.read_text(encoding="utf-8")
    assert cli.main([*given, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"learning_rate", "reason", "rates", "losses"}
