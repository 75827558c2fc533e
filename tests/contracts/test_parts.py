"""What every part keeps, ours and third parties' alike. Parts are found by the registry; nothing here names one."""

from pathlib import Path

import pytest
import torch

from tests import toy
from tests.before import stage
from tunesmith.core import registry, sentences
from tunesmith.core.part import Part

PARTS = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
TRAINING_KINDS = {
    "methods": "method",
    "regularizers": "regularizers",
    "schedules": "schedules",
    "objectives": "objective",
}


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_builds_from_its_name_alone(kind: str, name: str) -> None:
    part = registry.build(kind, name)
    assert part.word() == name
    assert registry.build(kind, registry.spec(part)) == part


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_docstring_says_formula_symbols_and_paper(kind: str, name: str) -> None:
    told = registry.load(kind, name).__doc__ or ""
    first = told.split("\n\n")[0]
    assert first.endswith(".") and len(first) > 20
    assert "Paper:" in told
    assert "Shapes:" in told or "Parameters:" in told


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_setting_has_a_sentence_and_there_are_few(kind: str, name: str) -> None:
    fields = sentences.told(registry.load(kind, name))
    assert len(fields) <= 12
    assert all(info.description for info in fields.values())


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_settings_are_frozen_and_unknown_ones_refused(kind: str, name: str) -> None:
    with pytest.raises(ValueError, match="no_such_setting"):
        registry.build(kind, {"name": name, "no_such_setting": 1})
    part = registry.build(kind, name)
    for field in type(part).model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(part, field, None)


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_has_a_test_file(kind: str, name: str) -> None:
    entry = registry.entries(kind)[name]
    if not entry.ours:
        pytest.skip("a third party's part: its tests are its own")
    assert (Path(__file__).parent.parent / kind / f"test_{name}.py").is_file()


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n in PARTS if k in TRAINING_KINDS])
def test_resumed_from_its_state_the_next_steps_are_identical(kind: str, name: str, tmp_path: Path) -> None:
    key = TRAINING_KINDS[kind]
    values = {key: [name] if key.endswith("s") else name, "train": {"steps": 4, "checkpoint_every": 1}}
    whole = stage(values)
    assert toy.train(whole, tmp_path / "whole", evaluate=_metrics)
    halves = stage(values)
    asked = iter([False, True])
    assert not toy.train(halves, tmp_path / "halves", evaluate=_metrics, interrupted=lambda: next(asked))
    torch.rand(7)  # A resumed process has used its random numbers otherwise.
    again = stage(values)
    assert toy.train(again, tmp_path / "halves", evaluate=_metrics)
    expected = toy.weights(whole)
    assert all(torch.equal(expected[name], tensor) for name, tensor in toy.weights(again).items())
    assert [_state(part) for part in again.recipe.parts] == [_state(part) for part in whole.recipe.parts]


def _metrics() -> dict[str, float]:
    return {"loss": 1.0, "accuracy": 0.5}


def _state(part: Part) -> dict[str, object]:
    return {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in part.state().items()}
