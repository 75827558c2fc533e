"""ULMFiT's rate: up quickly, down slowly, never zero."""

import pytest

from tests import toy
from tunesmith.schedules.slanted_triangular import SlantedTriangular, factor


def test_by_hand() -> None:
    found = [factor(step, 100, 0.1, 32) for step in range(101)]
    assert found[0] == found[100] == pytest.approx(1 / 32)
    assert found[10] == 1 and found.count(1) == 1
    # Half of the way up, and half of the way down: (1 + 31 / 2) / 32.
    assert found[5] == found[55] == pytest.approx(33 / 64)


@pytest.mark.parametrize(("total", "rise"), [(1, 0.1), (1, 0.9), (3, 0.9), (7, 0.0)])
def test_short_trainings_have_a_rate(total: int, rise: float) -> None:
    assert all(0 < factor(step, total, rise, 32) <= 1 for step in range(total + 1))


def test_every_group_keeps_its_own_peak() -> None:
    training = toy.prepared({"train": {"steps": 10, "learning_rate": 0.1}}).training
    training.optimizer.param_groups[1]["peak"] = 0.3
    training.step = 1
    SlantedTriangular().after_step(training)
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([0.1, 0.3])
