"""The recipe over several seeds: figures, failed trainings, remedies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests import toy
from tests.evaluate import ruled
from tunesmith.core.files import read_json
from tunesmith.core.finished import Finished, Further
from tunesmith.core.panel import Lines, Points, Result, Table
from tunesmith.evaluate import seeds
from tunesmith.evaluate.stability import Stability

# Ten rows: 4 of each of two classes, and 2 of a third. A constant answer gets 4 of 10.
LABELS = ["cancel"] * 4 + ["praise"] * 4 + ["price"] * 2
ROWS = [{"text": f"{place}", "label": label} for place, label in enumerate(LABELS)]
RECIPE: dict[str, Any] = {
    "train": {"seed": 7, "epochs": 2.0, "steps": None},
    "data": {"order_seed": None},
    "method": {"name": "full", "reinit": 0},
}


class Right:
    """A model that answers the first rows right, and the others wrong."""

    def __init__(self, right: int) -> None:
        self.task = ruled.task()
        self.right = right

    def predict(self, rows: Dataset) -> Any:
        def scores(row: Mapping[str, Any]) -> list[float]:
            true = ruled.CLASSES.index(row["label"])
            said = true if int(row["text"]) < self.right else (true + 1) % 3
            return [float(place == said) for place in range(3)]

        return ruled.Ruled(self.task, scores).predict(rows)


class Trains:
    """Gives each further training a model that has so many rows right; a text: why it diverged."""

    def __init__(self, right: Mapping[str, int | str]) -> None:
        self.right, self.asked = right, {}  # type: ignore[var-annotated]

    def __call__(self, name: str, changes: Mapping[str, Any], *, share: float = 1.0) -> Further:
        assert share == 1
        self.asked[name] = changes
        found = self.right[name]
        if isinstance(found, str):
            return Further(name, failed=found, diverged=True)
        return Further(name, Right(found), 1.0, 5)  # type: ignore[arg-type]


def finished(again: Any, right: int = 8, splits: tuple[str, ...] = ("validation", "test"), **more: Any) -> Finished:
    task = ruled.task()
    task.learn({"label": label} for label in LABELS)
    rows = Dataset.from_list(ROWS)
    now = Right(right)

    def never(*_: Any) -> Any:
        raise AssertionError

    values: dict[str, Any] = {
        "task": task, "splits": dict.fromkeys(splits, rows), "predict": lambda name: now.predict(rows),
        "untrained": never, "lines": never, "seed": 7, "train": never, "now": now, "before": never, "read": never,
        "recipe": RECIPE, "again": again,
    }  # fmt: skip
    return Finished(**{**values, **more})


def figure(result: Result, name: str, split: str = "test", subject: str = "3 seeds, as it is") -> Any:
    (found,) = (one for one in result.figures if (one.name, one.split, one.subject) == (name, split, subject))
    return found


def test_figures_over_seeds_the_run_being_the_first() -> None:
    again = Trains({"seed-8": 6, "seed-9": 4})
    result = Stability(seeds=3).measure(finished(again))
    assert again.asked == {f"seed-{seed}": {"train": {"seed": seed}, "data": {"order_seed": None}} for seed in (8, 9)}
    mean = figure(result, "mean_accuracy")
    assert mean.value == pytest.approx(0.6)
    assert (mean.low, mean.high) == pytest.approx(seeds.mean_interval([0.8, 0.6, 0.4]))
    assert figure(result, "standard_deviation").value == pytest.approx(0.2)
    assert (figure(result, "lowest").value, figure(result, "highest", "validation").value) == (0.4, 0.8)
    # 4 of 10 is what a constant answer has: that training failed.
    failed = figure(result, "failed")
    assert failed.value == pytest.approx(1 / 3) and (failed.low, failed.high) == seeds.share_interval(1, 3)
    table, points, curve = result.panels
    assert isinstance(table, Table) and isinstance(points, Points) and isinstance(curve, Lines)
    assert table.rows[0] == ["as it is", 7, 0.8, 0.8, ""]
    assert table.rows[2] == ["as it is", 9, 0.4, 0.4, "no better than most frequent class"]
    assert table.note == "Failed: as it is 1 of 3. To beat: most frequent class, 0.4 on test."
    assert points.note == "From left to right: as it is 9; as it is 8; as it is 7." and points.xs == [0.4, 0.6, 0.8]
    # Of three draws from three: 1, 7 and 19 of 27.
    best = [0.6, (0.4 + 3 * 0.6 + 5 * 0.8) / 9, (0.4 + 7 * 0.6 + 19 * 0.8) / 27]
    assert curve.series["as it is"] == ([1, 2, 3], pytest.approx(best))


def test_one_that_diverged_is_failed_and_in_no_mean() -> None:
    result = Stability(seeds=3).measure(finished(Trains({"seed-8": "no number", "seed-9": 6}), splits=("test",)))
    assert figure(result, "mean_accuracy").value == pytest.approx(0.7) and figure(result, "failed").value == 1 / 3
    (table,) = result.panels
    assert isinstance(table, Table) and table.rows[1] == ["as it is", 8, None, "diverged: no number"]


def test_initialisation_and_order_are_told_apart() -> None:
    again = Trains({"initialisation-8": 5, "order-8": 6, "order-4": 6})
    Stability(seeds=2, vary="initialisation").measure(finished(again))
    Stability(seeds=2, vary="order").measure(finished(again))
    assert again.asked == {
        "initialisation-8": {"train": {"seed": 8}, "data": {"order_seed": 7}},
        "order-8": {"data": {"order_seed": 8}},
    }
    recipe = {**RECIPE, "data": {"order_seed": 3}}
    Stability(seeds=2, vary="order").measure(finished(again, recipe=recipe))
    assert again.asked["order-4"] == {"data": {"order_seed": 4}}


def test_remedies_are_compared_seed_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    again = Trains({"seed-8": 6, "seed-9": 4, "longer-seed-7": 9, "longer-seed-8": 8, "longer-seed-9": 7})
    result = Stability(seeds=3, help=["longer"]).measure(finished(again))
    assert again.asked["longer-seed-9"] == {"train": {"epochs": 6.0, "seed": 9}, "data": {"order_seed": None}}
    # 0.9 - 0.8, 0.8 - 0.6, 0.7 - 0.4
    gain = figure(result, "mean_accuracy", subject="longer, difference to as it is")
    assert gain.value == pytest.approx(0.2)
    assert (gain.low, gain.high) == pytest.approx(seeds.mean_interval([0.1, 0.2, 0.3]))
    assert figure(result, "failed", subject="3 seeds, longer").value == 0
    spread = figure(result, "p_of_equal_spread", subject="longer, difference to as it is")
    assert spread.value == pytest.approx(seeds.same_spread([0.9, 0.8, 0.7], [0.8, 0.6, 0.4]))


def test_a_remedy_that_can_not_be_is_told() -> None:
    again = Trains({"seed-8": 6})
    recipe = {**RECIPE, "method": {"name": "lora", "rank": 8}}
    result = Stability(seeds=2, help=["reinitialise"]).measure(finished(again, recipe=recipe))
    told = result.panels[0]
    assert isinstance(told, Table) and told.rows == [["Because method 'lora' starts no block anew."]]
    recipe = {**RECIPE, "method": {"name": "full", "reinit": 2}}
    result = Stability(seeds=2, help=["reinitialise"]).measure(finished(again, recipe=recipe))
    assert result.panels[0].rows == [["Because the recipe starts 2 blocks anew already."]]  # type: ignore[union-attr]


def test_a_quarter_of_the_blocks_starts_anew() -> None:
    again = Trains({"seed-8": 6, "reinitialise-seed-7": 5, "reinitialise-seed-8": 5})
    now = Right(8)
    now.model = toy.prepared({}).backbone.model  # type: ignore[attr-defined]
    Stability(seeds=2, help=["reinitialise"]).measure(finished(again, now=now))
    assert again.asked["reinitialise-seed-8"]["method"] == {"reinit": 1}  # of two


def test_where_nothing_can_be_trained_it_says_so() -> None:
    result = Stability().measure(finished(None))
    assert result.panels[0].rows == [["Because the training rows are not at hand."]]  # type: ignore[union-attr]
    result = Stability().measure(finished(None, splits=()))
    assert result.panels[0].rows == [["Because no rows are held out."]]  # type: ignore[union-attr]
    result = Stability(seeds=2).measure(finished(lambda name, changes: Further(name, failed="no such thing")))
    assert result.panels[0].rows == [["Because no such thing."]]  # type: ignore[union-attr]
    assert not [one for one in result.figures if one.name != "failed"]


def test_the_order_has_a_seed_of_its_own() -> None:
    rows = toy.rows_for(toy.prepared({}).recipe.task, 24)
    plain, same, other = (
        toy.prepared({"data": {"train": "rows.csv", "order_seed": seed}}, rows=rows) for seed in (None, 0, 1)
    )
    orders = [[update.tolist() for update in one.batches.epoch(0)] for one in (plain, same, other)]
    assert orders[0] == orders[1] != orders[2]
    started = [toy.weights(one)["classifier.weight"] for one in (plain, other)]
    assert started[0].equal(started[1])


def test_a_run_trains_again_by_itself(tmp_path: Path) -> None:
    suite = {"name": "stability", "seeds": 2}
    folder = toy.run(tmp_path, evaluate=[suite], train={"epochs": 1})
    found = read_json(folder / "evaluation.json")["suites"]["stability"]
    assert [path.name for path in (folder / "also").iterdir()] == ["seed-1"]
    values = [one["value"] for one in found["figures"] if one["name"] in ("lowest", "highest", "mean_accuracy")]
    assert len(values) == 6 and {one["subject"] for one in found["figures"]} == {"2 seeds, as it is"}
    assert "failed" not in found
