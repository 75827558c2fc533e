"""The suite of robustness: figures by hand of a model that answers by a rule, and tiny models of several tasks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import toy
from tests.evaluate import ruled, suites
from tunesmith.core import registry
from tunesmith.core.errors import RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Lines, Result, Table
from tunesmith.evaluate import stats
from tunesmith.evaluate.robustness import Robustness
from tunesmith.evaluate.robustness_changes import CHANGES
from tunesmith.evaluate.robustness_rows import layout


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 20)


def value(result: Result, name: str, subject: str) -> float:
    return next(one.value for one in result.figures if (one.name, one.subject) == (name, subject))


def table(result: Result, title: str) -> Table:
    return next(one for one in result.panels if isinstance(one, Table) and one.title == title)


def test_figures_by_hand() -> None:
    finished = ruled.finished(ruled.rows(12))
    changes = ["upper", "lower", "closed", "names"]
    result = Robustness(changes=changes, strengths=[0.5, 1.0], negation=False).measure(finished)
    # The rule reads small letters alone: in capitals all but the third of rows that is a price is answered wrongly.
    assert value(result, "accuracy", "unchanged") == 1.0
    assert value(result, "accuracy", "upper 1") == pytest.approx(1 / 3)
    assert value(result, "difference", "upper 1") == pytest.approx(-2 / 3)
    assert value(result, "answers changed", "upper 1") == pytest.approx(2 / 3)
    assert value(result, "difference", "closed") == value(result, "answers changed", "closed") == 0.0
    # Every letter is small already, and no name stands there: these two are no figures.
    assert {one.subject for one in result.figures} == {"unchanged", "upper 0.5", "upper 1", "closed", "model"}
    half = value(result, "accuracy", "upper 0.5")
    area = 0.25 * (1.0 + half) + 0.25 * (half + 1 / 3)
    assert value(result, "mean accuracy", "model") == pytest.approx((area + 1.0) / 2)
    rows = {row[0]: row[2:] for row in table(result, "What changes of the texts do").rows}
    assert rows["upper"] == pytest.approx([1.0, 1 / 3, -2 / 3, 2 / 3, area])
    assert rows["lower"] == rows["names"] == [0.0, None, None, None, None]
    curve = next(one for one in result.panels if isinstance(one, Lines))
    assert curve.series == {"upper": ([0.0, 0.5, 1.0], [1.0, half, pytest.approx(1 / 3)])}
    # No figure of a model's own metric, which the report would take for that of the task.
    assert not any(one.name == "accuracy" and one.subject == "model" for one in result.figures)


def test_differences_are_paired() -> None:
    finished = ruled.finished(ruled.rows(12))
    result = Robustness(changes=["closed"], negation=False).measure(finished)
    found = next(one for one in result.figures if one.name == "difference")
    assert (found.low, found.high) == (0.0, 0.0)


def test_only_changed_rows_are_asked_again() -> None:
    rows = [*ruled.rows(9), {"text": "lovely Anna", "label": "praise", "line": 11}]
    finished = ruled.finished(rows)
    Robustness(changes=["names"], negation=False).measure(finished)
    assert finished.now.asked == 10 + 1  # type: ignore[attr-defined]


def test_examples_show_changed_answers_first() -> None:
    rows = [{"text": "how much?", "label": "price"}, *ruled.rows(1)]
    finished = ruled.finished(rows)
    result = Robustness(changes=["upper"], strengths=[1.0], examples=1, negation=False).measure(finished)
    expected = ["upper 1", rows[1]["text"], rows[1]["text"].upper(), "cancel", "price", "cancel"]
    assert table(result, "Changed texts").rows == [expected]


def test_the_seed_alone_decides() -> None:
    suite = Robustness(strengths=[0.3], rows=7)
    one, same = (suite.measure(ruled.finished(ruled.rows(20))).as_json() for _ in range(2))
    other = suite.measure(ruled.finished(ruled.rows(20), seed=1)).as_json()
    assert one == same != other


def test_rows_are_drawn_and_that_is_said() -> None:
    with listening() as said:
        result = Robustness(rows=5, changes=["upper"], negation=False).measure(ruled.finished(ruled.rows(20)))
    assert "Robustness: 5 of 20 test rows are changed." in said
    assert table(result, "What changes of the texts do").note.startswith("On 5 test rows")


def test_changes_that_do_not_suit_are_said() -> None:
    part = ruled.task("regress")
    rows = [{"text": f"lamp {n}", "score": float(n)} for n in range(6)]
    finished = ruled.finished(rows, lambda row: float(row["text"].split()[-1].strip(".")), part)
    with listening() as said:
        result = Robustness(changes=["numbers", "upper"]).measure(finished)
    assert "Robustness: not tried, as labels may change with them or can't follow: numbers." in said
    assert value(result, "pearson", "upper 0.5") == pytest.approx(1.0)
    assert value(result, "answers changed", "upper 0.5") == 0.0


def test_numbers_are_the_same_within_the_tolerance() -> None:
    rows = [{"text": f"lamp {n}", "score": float(n)} for n in range(6)]

    def rule(row: dict[str, Any]) -> float:
        return float(row["text"].split()[-1]) + 0.2 * row["text"].isupper()

    # The standard deviation of 0 to 5 is 1.71.
    for tolerance, changed in ((0.1, 1.0), (0.2, 0.0)):
        finished = ruled.finished(rows, rule, ruled.task("regress"))
        result = Robustness(changes=["upper"], strengths=[1.0], tolerance=tolerance).measure(finished)
        assert value(result, "answers changed", "upper 1") == changed


@pytest.mark.parametrize("name", ["classify", "tag", "answer_span", "regress", "choose", "embed"])
def test_models_of_many_tasks_are_measured(name: str) -> None:
    toyed = toy.prepared({"task": name, "model": "builtin:tiny-bert"}, count=8)
    suite = Robustness(strengths=[0.5], rows=5, examples=1)
    result = suite.measure(suites.finished(toyed))
    json.dumps(result.as_json(), allow_nan=True)
    known = layout(toyed.recipe.task).known()
    table_of = table(result, "What changes of the texts do")
    assert {row[0] for row in table_of.rows} == set(known)
    tried = {str(one.subject).split()[0] for one in result.figures}
    assert {"keyboard", "upper"} <= tried <= {*known, "unchanged", "model", "negation"}


@pytest.mark.parametrize("strengths", [[0.0], [1.5], [0.5, 0.5]])
def test_strengths_are_shares(strengths: list[float]) -> None:
    with pytest.raises(ValueError, match="not a list of different shares"):
        registry.build("evaluate", {"name": "robustness", "strengths": strengths})


def test_an_unknown_change_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'keybord' is no change\. Did you mean 'keyboard'"):
        registry.build("evaluate", {"name": "robustness", "changes": ["keybord"]})
    assert len(CHANGES) == 17


def test_without_held_out_rows_it_is_told() -> None:
    with pytest.raises(RecipeError, match="needs held-out rows"):
        Robustness().measure(ruled.finished([]))


def test_files_are_looked_at_before_a_training(tmp_path: Path) -> None:
    world: Any = SimpleNamespace()
    model: Any = None
    Robustness().check(model, world)
    with pytest.raises(RecipeError, match=r"The file of checks .*none.yaml does not exist"):
        Robustness(checks=str(tmp_path / "none.yaml")).check(model, world)
    with pytest.raises(RecipeError, match=r"contrast pairs .*none.csv does not exist"):
        Robustness(contrast=str(tmp_path / "none.csv")).check(model, world)
    (tmp_path / "checks.yaml").write_text("checks: []\n", encoding="utf-8")
    recipe = {"evaluate": ["task", {"name": "robustness", "checks": str(tmp_path / "checks.yaml")}]}
    with pytest.raises(RecipeError, match="are wrong"):
        toy.prepared(recipe)


def test_everything_together(tmp_path: Path) -> None:
    checks, contrast = tmp_path / "checks.yaml", tmp_path / "pairs.csv"
    checks.write_text(
        "checks: [{name: one, kind: minimum, texts: [please cancel], answer: cancel}]\n", encoding="utf-8"
    )
    contrast.write_text("text,label\nplease cancel,cancel\nhow lovely,praise\n", encoding="utf-8")
    suite = Robustness(changes=["upper"], checks=str(checks), contrast=str(contrast))
    result = suite.measure(ruled.finished(ruled.rows(6)))
    assert value(result, "failed", "one") == 0.0
    assert value(result, "both right", "contrast pairs") == 1.0
    assert [one.title for one in result.panels][-1] == "Checks"
