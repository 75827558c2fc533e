"""A rate that stays, after a rise where one is wanted."""

from tests import toy
from tunesmith.schedules.constant import Constant, factor


def test_by_hand() -> None:
    assert [factor(step, 8, 0.5) for step in range(9)] == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert {factor(step, 8, 0.0) for step in range(9)} == {1}


def test_it_takes_the_place_of_the_usual_schedule() -> None:
    toyed = toy.prepared({"schedules": ["constant"], "train": {"learning_rate": 0.1, "steps": 4}})
    assert [part.word() for part in toyed.recipe.schedules] == ["constant"]
    Constant().setup(toyed.training)
    assert [group["lr"] for group in toyed.training.optimizer.param_groups] == [0.1, 0.1]
