"""The suite `baselines` as a whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import toy
from tests.evaluate import suites
from tunesmith.core.errors import RecipeError
from tunesmith.core.files import read_json
from tunesmith.core.panel import Result, Table
from tunesmith.evaluate import stats
from tunesmith.evaluate.baselines import NAMES, Baselines


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 40)


def lines(result: Result) -> dict[str, dict[str, Any]]:
    (table,) = result.panels
    assert isinstance(table, Table)
    return {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}


def measured(values: dict[str, Any], suite: Baselines, count: int = 24) -> dict[str, dict[str, Any]]:
    return lines(suite.measure(suites.finished(toy.prepared(values, count=count))))


def test_a_causal_model_has_all_of_them() -> None:
    found = measured({"model": "builtin:tiny-gpt2"}, Baselines(rows=8, shots=[0, 2], orders=2, trained=False))
    assert list(found) == [
        "this model", "constant", "nearest_mean", "neighbours", "tf_idf", "zero_shot", "in_context (0 examples)",
        "in_context (2 examples)",
    ]  # fmt: skip
    for name, row in found.items():
        assert 0 <= row["accuracy"] <= 1, name
        if name != "this model":
            assert row["seconds"] > 0 and 0 < row["p"] <= 1 and " to " in row["its interval"]
    assert found["neighbours"]["accuracy"] == 1  # the held-out rows are those that are learned from
    assert found["zero_shot"]["rows answered"] == 8 and found["in_context (2 examples)"]["training rows used"] == 2


def test_what_does_not_apply_stands_in_the_same_table() -> None:
    found = measured({}, Baselines(shots=[4]))
    assert found["in_context (4 examples)"]["how"] == "not measured: the backbone is no causal language model"
    assert found["zero_shot"]["accuracy"] is not None
    numbers = measured({"task": "regress"}, Baselines(shots=[4]))
    assert numbers["neighbours"]["pearson"] == pytest.approx(1) and numbers["tf_idf"]["pearson"] is not None
    assert numbers["constant"]["pearson"] is None and "not defined" in numbers["constant"]["how"]
    for name in ("nearest_mean", "zero_shot", "in_context (4 examples)"):
        assert numbers[name]["how"] == "not measured: an answer of the task 'regress', as it is set, is no single class"
    tags = measured({"task": "tag"}, Baselines(only=["constant", "neighbours", "tf_idf"]))
    assert tags["constant"]["f1"] is not None
    assert all("not measured" in tags[name]["how"] for name in ("neighbours", "tf_idf"))


def test_without_rows_to_learn_from_or_to_judge() -> None:
    toyed = toy.prepared({}, count=12)
    found = lines(Baselines().measure(suites.finished(toyed, train=lambda: None)))
    assert found["tf_idf"]["how"] == "not measured: the training rows are not at hand"
    assert found["constant"]["accuracy"] is not None
    nothing = Baselines().measure(suites.finished(toyed, {}))
    assert "no rows are held out" in str(nothing.panels[0].rows)  # type: ignore[union-attr]


def test_figures_are_those_of_the_table() -> None:
    result = Baselines(only=["constant", "tf_idf"]).measure(suites.finished(toy.prepared({}, count=24)))
    found = lines(result)
    for one in result.figures:
        column = {"accuracy": "accuracy", "p": "p"}.get(one.name, "model minus this")
        assert one.value == found[one.subject][column] and one.split == "test"
    assert {one.subject for one in result.figures} == {"constant", "tf_idf"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"only": ["neighbors"]}, "no baseline is called 'neighbors'. Did you mean 'neighbours'?"),
        ({"template": "Say {words}:"}, "must hold {text}"),
        ({"template": "{text} {label}"}, "nothing else in braces"),
        ({"shots": [2, 2]}, "different numbers of examples"),
        ({"shots": []}, "different numbers of examples"),
        ({"choose": "best"}, "similar"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("{", r"\{").replace("}", r"\}").replace("?", r"\?")):
        Baselines(**settings)


def test_a_class_that_the_model_does_not_have_is_refused_before_the_training() -> None:
    model: Any = SimpleNamespace(config=SimpleNamespace(id2label={0: "late", 1: "early"}))
    world: Any = None
    Baselines(names={"late": "too late"}).check(model, world)
    with pytest.raises(RecipeError, match=r"no class is called 'lat'. Did you mean 'late'\?"):
        Baselines(names={"lat": "too late"}).check(model, world)


def test_every_name_is_measured_by_something() -> None:
    toyed = toy.prepared({}, count=12)
    for name in NAMES:
        assert lines(Baselines(only=[name]).measure(suites.finished(toyed)))


def test_a_run_trains_its_head_alone_and_from_random_weights(tmp_path: Path) -> None:
    only = ["head_only", "from_scratch"]
    evaluate = ["task", {"name": "baselines", "only": only}]
    folder = toy.run(tmp_path, evaluate=evaluate, method={"name": "lora", "rank": 2}, train={"epochs": 1})
    found = read_json(folder / "evaluation.json")["suites"]["baselines"]
    assert "failed" not in found, found
    (table,) = found["panels"]
    model, head, scratch = (dict(zip(table["columns"], row, strict=True)) for row in table["rows"])
    assert (head["what"], scratch["what"]) == tuple(only)
    assert head["parameters trained"] < model["parameters trained"] < scratch["parameters trained"]
    assert all(row["seconds"] > 0 and row["accuracy"] is not None for row in (model, head, scratch))
