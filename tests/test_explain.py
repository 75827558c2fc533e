"""Explanations of parts, sections and recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.core import registry
from tunesmith.core.errors import RecipeError
from tunesmith.explain import STEPS, explain

NAMES = ["data", "model", "train", *(name for kind in registry.KINDS for name in registry.names(kind))]


@pytest.mark.parametrize("name", NAMES)
def test_every_part_and_section_explains_itself(name: str) -> None:
    found = explain(name)
    assert found.title.endswith(f" {name}") and found.text
    assert all(setting.sentence and setting.type for setting in found.settings)
    assert json.loads(json.dumps(found.as_json()))["title"] == found.title


def test_a_method_with_its_settings() -> None:
    found = explain("lora")
    assert found.title == "method lora"
    assert found.text.startswith("Train two small matrices")
    settings = {setting.name: (setting.type, setting.default) for setting in found.settings}
    assert settings["rank"] == ("int", "8") and settings["targets"] == ("str", "'attention'")
    assert next(setting for setting in found.settings if setting.name == "rank").sentence.startswith("Inner size r")
    assert {setting.name: setting.default for setting in explain("data").settings}["train"] == ""


def test_a_recipe_is_told_hook_by_hook(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "data: rows.csv\ntask: classify\nmodel: builtin:tiny-bert\nmethod: head_only\n"
        "regularizers: [l2_sp]\nschedules: [early_stop]\n"
    )
    found = explain(str(path))
    assert found.title == "classify with head_only on builtin:tiny-bert"
    assert [hook for hook, _, _ in found.steps] == list(STEPS)
    assert {hook: acting for hook, _, acting in found.steps} == {
        "modify": "head_only, supervised",
        "setup": "supervised, l2_sp, warmup_linear",
        "batches": "supervised",
        "loss": "supervised, l2_sp",
        "after_step": "warmup_linear",
        "after_eval": "early_stop",
    }
    assert "strength: 0.01" in found.text


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"Nothing is called 'lorra'\. Did you mean 'lora'\?"):
        explain("lorra")
