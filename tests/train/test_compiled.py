"""torch.compile: used where it pays, left out where it does not, and never with another result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith.core.errors import RecipeError
from tunesmith.train import compiled, loop
from tunesmith.train.compiled import Compiled
from tunesmith.train.log import Log


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced, but not translated to machine code: no compiler is needed, and no minute.
    monkeypatch.setattr(compiled, "BACKEND", "eager")


def trained(folder: Path, part: Compiled | None, steps: int = 6, quiet: bool = True) -> Any:
    toyed = toy.prepared({"train": {"steps": steps}}, 16)
    if quiet:
        toy.quiet(toyed.training.model)
    parts = [*toyed.recipe.parts, *([part] if part else [])]
    outside = loop.Outside(folder / "checkpoints", Log(folder / "metrics.jsonl"), dict, lambda: False)
    folder.mkdir(parents=True, exist_ok=True)
    loop.train(toyed.training, parts, toyed.batches, toyed.recipe.train, toyed.accelerator, outside)
    return toyed


def same(one: Any, other: Any, tolerance: float) -> bool:
    pairs = zip(toy.weights(one).values(), toy.weights(other).values(), strict=True)
    return all(torch.allclose(a, b, atol=tolerance) for a, b in pairs)


def test_a_trial_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is tried, however little is left, and found to be slower.
    monkeypatch.setattr(compiled, "USUAL", 0.0)
    times = iter([1.0, 2.0])
    monkeypatch.setattr(compiled, "_seconds", lambda step: compiled._run(step) or next(times))
    part = Compiled()
    tried = trained(tmp_path / "tried", part, quiet=False)
    assert part.state() == {"on": False}
    assert tried.training.model._compiled_call_impl is None
    assert same(tried, trained(tmp_path / "plain", None, quiet=False), 0.0)


def test_the_faster_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "USUAL", 0.0)
    times = iter([2.0, 1.0])
    monkeypatch.setattr(compiled, "_seconds", lambda step: compiled._run(step) or next(times))
    part = Compiled()
    translated = trained(tmp_path / "translated", part)
    assert part.state() == {"on": True}
    assert translated.training.model._compiled_call_impl is not None


def test_nothing_is_tried_where_little_time_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "switch", lambda model, on: (_ for _ in ()).throw(AssertionError) if on else None)
    part = Compiled()
    trained(tmp_path, part)
    assert part.state() == {"on": False}


def test_a_resumed_run_computes_as_the_first_did() -> None:
    toyed = toy.prepared({})
    part = Compiled()
    part.setup(toyed.training)
    part.restore({"on": True})
    assert toyed.training.model._compiled_call_impl is not None
    part.restore({"on": False})
    assert toyed.training.model._compiled_call_impl is None


@pytest.mark.parametrize("setting", [True, "auto"])
def test_a_translation_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: Any) -> None:
    monkeypatch.setattr(compiled, "USUAL", 0.0)

    def broken(model: Any, on: bool) -> None:
        if on:
            raise RuntimeError("no compiler was found")

    monkeypatch.setattr(compiled, "switch", broken)
    if setting == "auto":
        trained(tmp_path, Compiled(setting=setting))
    else:
        with pytest.raises(RecipeError, match=r"speed\.compile: .*no compiler was found"):
            trained(tmp_path, Compiled(setting=setting))


def test_with_it_a_training_gives_the_same_weights(tmp_path: Path) -> None:
    one, other = trained(tmp_path / "translated", Compiled(setting=True), 3), trained(tmp_path / "plain", None, 3)
    assert same(one, other, 1e-5)
