"""The suite `calibration`: figures before and after a temperature, and what is stored of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests import toy
from tests.evaluate import suites
from tests.evaluate.test_temperature import drawn
from tunesmith.core.notes import listening
from tunesmith.core.panel import Lines, Result, Table
from tunesmith.evaluate import reliability, stats, temperature
from tunesmith.evaluate.calibration import CHANCE, COOLED, Calibration
from tunesmith.prepare import Prepared

CLASSES = ["a", "b", "c", "d"]


class Scored:
    """A model whose scores are those of the rows."""

    def scores(self, rows: Any) -> np.ndarray:
        """As they stand there."""
        return np.array(rows[:]["scores"], dtype=np.float32)


@pytest.fixture(scope="module")
def toyed() -> Prepared:
    return toy.prepared({}, rows=Dataset.from_list([{"line": n, "text": c, "label": c} for n, c in enumerate(CLASSES)]))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 60)


def split(rows: int, heat: float) -> Dataset:
    scores, truths = drawn(rows, heat)
    return Dataset.from_list(
        [
            {"text": "x", "label": CLASSES[truth], "scores": one.tolist()}
            for one, truth in zip(scores, truths, strict=True)
        ]
    )


def measured(toyed: Prepared, splits: dict[str, Dataset], folder: Path | None = None, **settings: Any) -> Result:
    return Calibration(**settings).measure(
        suites.finished(toyed, splits, folder, now=Scored(), train=lambda: None)  # type: ignore[arg-type]
    )


def of(result: Result, subject: str) -> dict[str, Any]:
    return {one.name: one for one in result.figures if one.subject == subject}


def test_a_temperature_mends_confidences(toyed: Prepared) -> None:
    test, validation = split(900, 2.5), split(3000, 2.5)
    result = measured(toyed, {"validation": validation, "test": test})
    before, after = of(result, "model"), of(result, COOLED)
    assert after["temperature"].value == pytest.approx(2.5, rel=0.1) and after["temperature"].split == "validation"
    expected = reliability.values(reliability.sureness(*drawn(900, 2.5)))
    assert {name: one.value for name, one in before.items()} == expected
    assert after["ece"].value < 0.06 < 0.15 < before["ece"].value
    assert after["nll"].value < before["nll"].value and after["brier"].value < before["brier"].value
    for figure in (*before.values(), *(one for one in after.values() if one.name != "temperature")):
        assert 0 <= figure.low <= figure.value <= figure.high and figure.split == "test"
    chance = of(result, CHANCE)
    assert set(chance) == {"ece", "adaptive_ece"}
    assert chance["ece"].high < before["ece"].low
    assert chance["ece"].value < 0.05


def test_what_the_page_shows(toyed: Prepared) -> None:
    result = measured(toyed, {"validation": split(400, 2.5), "test": split(300, 2.5)})
    curve, counts, risk = result.panels
    assert isinstance(curve, Lines) and isinstance(risk, Lines)
    assert list(curve.series) == ["model", COOLED, "right as often as sure"]
    assert [sum(values) for values in counts.series.values()] == [300, 300]  # type: ignore[union-attr]
    coverage, wrong = risk.series["model"]
    assert len(coverage) <= 200 and coverage[-1] == 1.0
    right = reliability.sureness(*drawn(300, 2.5)).right
    assert wrong[-1] == pytest.approx(1 - right.mean())


def test_the_temperature_is_stored_where_that_is_asked(toyed: Prepared, tmp_path: Path) -> None:
    splits = {"validation": split(400, 2.5), "test": split(100, 2.5)}
    measured(toyed, splits, tmp_path)
    assert not (tmp_path / temperature.FILE).exists()
    with listening() as notes:
        result = measured(toyed, splits, tmp_path, store=True)
    assert json.loads((tmp_path / temperature.FILE).read_text()) == {
        "temperature": of(result, COOLED)["temperature"].value, "fitted_on": "validation", "rows": 400,
    }  # fmt: skip
    assert any("is stored" in text for text in notes)
    # Measured on another file, a run has the temperature that it keeps.
    again = measured(toyed, {"test": splits["test"]}, tmp_path)
    assert of(again, COOLED) == of(result, COOLED)


def test_without_a_test_split_the_temperature_is_not_judged(toyed: Prepared) -> None:
    with listening() as notes:
        result = measured(toyed, {"validation": split(400, 2.5)})
    assert set(of(result, COOLED)) == {"temperature"} and of(result, "model")["ece"].split == "validation"
    assert any("no test split" in text for text in notes)


def test_rows_that_fix_no_temperature_are_told(toyed: Prepared, tmp_path: Path) -> None:
    right = Dataset.from_list([{"text": "x", "label": "b", "scores": [0.0, 3.0, 1.0, 0.0]}] * 5)
    with listening() as notes:
        result = measured(toyed, {"validation": right, "test": right}, tmp_path, store=True)
    assert of(result, COOLED) == {} and of(result, "model")["ece"].value > 0
    assert any("fix no temperature" in text for text in notes) and not (tmp_path / temperature.FILE).exists()
    with listening() as notes:
        Calibration(store=True).measure(suites.finished(toyed, {"test": right}, now=Scored()))
    assert notes == ["Calibration: no temperature is stored, because there is no validation split to fit it on."]


@pytest.mark.parametrize("task", ["regress", {"name": "classify", "several": True}])
def test_a_task_without_scores_of_classes_says_so(task: Any) -> None:
    result = Calibration().measure(suites.finished(toy.prepared({"task": task})))
    (panel,) = result.panels
    assert isinstance(panel, Table) and "is no single one of a model's classes" in str(panel.rows)
    assert result.figures == [] and not result.failed


def test_without_rows_held_out_it_says_so(toyed: Prepared) -> None:
    (panel,) = measured(toyed, {}).panels
    assert panel.rows == [["Because no rows are held out."]]  # type: ignore[union-attr]


def test_a_models_own_scores_are_measured() -> None:
    own = toy.prepared({}, count=24)
    result = Calibration().measure(suites.finished(own))
    loss = suites.asked(own).predict(own.batches.rows).loss
    assert of(result, "model")["nll"].value == pytest.approx(loss, abs=1e-5)
