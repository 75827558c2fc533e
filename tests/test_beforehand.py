"""What is seen of every stage before the first one trains; test_stages.py tries it with whole sequences."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import toy
from tunesmith import beforehand, earlier
from tunesmith.core.errors import DataError, RecipeError
from tunesmith.recipe import Recipe, from_values


def recipe(folder: Path, **more: object) -> Recipe:
    data = {"train": str(toy.write_csv(folder / "rows.csv")), "validation": 0.2}
    task = {"name": "classify", "text": "text", "label": "label"}
    return from_values({"model": "builtin:tiny-bert", "data": data, "task": task, **more})


def test_what_several_stages_have_in_common_is_told_once(tmp_path: Path) -> None:
    good = recipe(tmp_path)
    bad = recipe(tmp_path, data=str(tmp_path / "none.csv"))
    beforehand.check({"Stage 1": good, "Stage 2": good}, {})
    with pytest.raises(DataError) as caught:
        beforehand.check({"Stage 1": good, "Stage 2": bad, "Stage 3": bad}, {})
    assert caught.value.message.startswith("Stage 2 and Stage 3: ") and caught.value.message.count("none.csv") == 1


def test_nothing_is_kept_of_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    beforehand.check({"Stage 1": recipe(tmp_path)}, {})
    assert not (tmp_path / "cache").exists()


def test_a_model_that_only_a_training_alone_starts_from_is_looked_at(tmp_path: Path) -> None:
    first = recipe(tmp_path, model={"family": "bert", "hidden": 16, "blocks": 1})
    second = recipe(tmp_path, method="lora")
    beforehand.check({"Stage 1": first, "Stage 2": earlier.following(second, "the model before it")}, {})
    with pytest.raises(RecipeError, match="Stage 2 alone: model: method 'lora' ships only what it adds"):
        beforehand.check({}, {"Stage 2 alone": earlier.beginning(second, first.model)})
