"""Intrinsic dimension: which of several is enough, and what stands in for a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import toy
from tests.evaluate import suites
from tunesmith.core.finished import Further
from tunesmith.core.panel import Lines
from tunesmith.evaluate import dimension, stats
from tunesmith.evaluate.drift import Drift


def test_the_fewest_that_are_near_the_run() -> None:
    found = {1000: 0.80, 10: 0.5, 100: 0.725}
    assert dimension.fewest(found, 0.8, True) == 100  # 0.72 is 0.9 of it
    assert dimension.fewest(found, 0.81, True) == 1000
    assert dimension.fewest(found, 0.9, True) is None
    # Perplexities: 10 / 0.9 = 11.1.
    assert dimension.fewest({10: 30.0, 100: 11.0, 1000: 9.0}, 10.0, False) == 100
    assert dimension.fewest(found, -0.1, True) is None and dimension.fewest(found, float("nan"), True) is None


def test_every_dimension_is_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 40)
    toyed = toy.prepared({}, count=12)
    asked: list[Any] = []

    def again(name: str, changes: Any, *, share: float = 1.0) -> Further:
        asked.append((name, changes["method"]["dimension"], share))
        if changes["method"]["dimension"] == 7:
            return Further(name, failed="too many")
        return Further(name, suites.asked(toyed))

    finished = suites.finished(toyed, again=again)
    result = dimension.measured(finished, "test", [20, 3, 7])
    assert asked == [("subspace-3", 3, 1.0), ("subspace-7", 7, 1.0), ("subspace-20", 20, 1.0)]
    # The same model as the run's, which learned nothing: no dimension is needed.
    assert not [one for one in result.figures if one.name == dimension.FIGURE]
    failed, lines = result.panels
    assert "too many" in str(failed) and isinstance(lines, Lines)
    xs, ys = lines.series["subspace"]
    assert (
        list(xs) == [3, 20] and np.allclose(ys, lines.series["this run"][1]) and "no input reaches 90 %" in lines.note
    )
    assert "not at hand" in str(dimension.measured(suites.finished(toyed), "test", [3]).panels)
    assert "held out" in str(dimension.measured(finished, None, [3]).panels)


def test_the_first_that_is_enough_is_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 40)
    toyed = toy.prepared({}, count=12)
    monkeypatch.setattr(type(toyed.recipe.task), "constant", lambda _: None)
    finished = suites.finished(toyed, again=lambda name, changes, share=1.0: Further(name, suites.asked(toyed)))
    result = dimension.measured(finished, "test", [20, 3])
    assert [one.value for one in result.figures if one.name == dimension.FIGURE] == [3]
    assert "Of these dimensions 3 reach 90 %" in result.panels[0].note  # type: ignore[union-attr]


def test_drift_asks_where_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 40)
    finished = suites.finished(toy.prepared({}, count=12))
    for suite, there in ((Drift(dimensions=[5]), True), (Drift(), False)):
        titles = [panel.title for panel in suite.measure(finished).panels]
        assert any(title.startswith("Intrinsic dimension") for title in titles) == there
