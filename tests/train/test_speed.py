"""The section `speed`: one word for all off, and single ones on again."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunesmith import recipe
from tunesmith.core.errors import RecipeError
from tunesmith.train.speed import PLAIN, SpeedSettings


def test_plain_names_every_shortcut_and_changes_each() -> None:
    usual, plain = SpeedSettings(), SpeedSettings.model_validate({"shortcuts": "plain"})
    changed = {name for name in SpeedSettings.model_fields if getattr(usual, name) != getattr(plain, name)}
    assert changed == {*PLAIN, "shortcuts"}
    # What saves memory for time is no shortcut, and is off in both.
    assert {*SpeedSettings.model_fields} - changed == {"offload"}


def test_a_named_one_stays_on_in_plain() -> None:
    settings = SpeedSettings.model_validate({"shortcuts": "plain", "fused": True})
    assert settings.fused
    assert not settings.unpadded


def test_the_bare_word() -> None:
    values = {"data": "nothing.csv", "task": "classify", "speed": "plain"}
    assert recipe.from_values(values).speed == SpeedSettings.model_validate({"shortcuts": "plain"})
    again = recipe.from_values(recipe.from_values(values).values())
    assert not again.speed.unpadded
    with pytest.raises(RecipeError, match="'fast' is not allowed"):
        recipe.from_values({**values, "speed": "fast"})


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="turbo"):
        SpeedSettings.model_validate({"turbo": True})
