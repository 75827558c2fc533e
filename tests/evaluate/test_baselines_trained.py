"""Further trainings as baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests import toy
from tests.evaluate import suites
from tunesmith.core.finished import Further
from tunesmith.evaluate import baselines_trained as told
from tunesmith.evaluate.baselines_ground import Ground, Missing, Told

TOYED = toy.prepared({}, count=9)
RECIPE = TOYED.recipe.values()


def ground(**more: Any) -> Ground:
    return Ground(suites.finished(TOYED, recipe=RECIPE, **more), "test", 5)


@pytest.mark.parametrize(("act", "name"), [(told.head_only, "head_only"), (told.from_scratch, "from_scratch")])
def test_a_further_training_answers_the_held_out_rows(act: Any, name: str) -> None:
    asked: dict[str, Any] = {}
    now = suites.asked(TOYED)

    def again(name: str, changes: Any) -> Further:
        asked[name] = changes
        return Further(name, now, 1.5, 77)

    made = ground(again=again)
    found = act(made)
    assert isinstance(found, Told) and (found.name, found.trained, found.used, found.seconds) == (name, 77, 9, 1.5)
    np.testing.assert_array_equal(found.answers[0], now.predict(made.rows("held out")).answers)
    assert asked[name]["method"] == {"head_only": "head_only", "from_scratch": "full"}[name]
    failed = act(ground(again=lambda name, changes: Further(name, failed="It can't be.")))
    assert failed == Missing(name, "the training failed: It can't be")
    assert act(ground()) == Missing(name, "the training rows are not at hand")


def test_what_the_recipe_does_already_is_not_done_again() -> None:
    alone = replace(ground().finished, recipe={**RECIPE, "method": {"name": "head_only"}})
    assert told.head_only(Ground(alone, "test", 5)) == Missing("head_only", "the recipe's own method is head_only")
    for model in ({"family": "bert"}, {"like": "builtin:tiny-bert", "weights": "random"}):
        random = replace(ground().finished, recipe={**RECIPE, "model": {**RECIPE["model"], **model}})
        found = told.from_scratch(Ground(random, "test", 5))
        assert found == Missing("from_scratch", "the model starts from random weights already")
