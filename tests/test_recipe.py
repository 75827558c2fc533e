"""The recipe: defaults filled in, bare words widened, the task inferred, all faults told together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith.core import document
from tunesmith.core.errors import DataError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.methods.lora import Lora
from tunesmith.recipe import SECTIONS, from_source, from_values, merged, resolve

LEAST: dict[str, Any] = {"data": "rows.csv", "task": "classify"}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_filled_in() -> None:
    values = from_values(LEAST).values()
    assert tuple(values) == SECTIONS
    assert values["model"]["name"] == "builtin:minilm"
    assert values["method"] == {"name": "full", "reinit": 0} and values["objective"]["name"] == "supervised"
    assert values["schedules"] == [{"name": "warmup_linear", "warmup": 0.1}]
    assert [one["name"] for one in values["evaluate"]] == ["task"]
    assert values["train"]["epochs"] == 3.0 and values["data"]["train"] == "rows.csv"


def test_the_resolved_recipe_repeats_itself(tmp_path: Path) -> None:
    first = from_values(
        LEAST
        | {
            "task": {"name": "classify", "class_weights": {"1": 2.0, "yes": 0.5}, "separator": ": "},
            "method": {"name": "lora", "rank": 2, "targets": ".*query"},
            "regularizers": ["l2_sp"],
            "schedules": ["early_stop", {"name": "warmup_cosine", "warmup": 0.2}],
            "train": {"learning_rate": 1e-05, "steps": 7},
        }
    )
    again = from_source(write(tmp_path, first.text()))
    assert again.values() == first.values()
    assert again.parts == first.parts and again.train == first.train


def test_the_parts_stand_in_the_order_of_the_loop() -> None:
    recipe = from_values(LEAST | {"method": "lora", "regularizers": ["l2_sp"], "schedules": ["early_stop"]})
    assert [part.word() for part in recipe.parts] == ["lora", "supervised", "l2_sp", "warmup_linear", "early_stop"]
    assert recipe.title == "classify with lora on builtin:minilm"


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("method=lora", ("method", "name"), "lora"),
        ("method.name=lora", ("method", "name"), "lora"),
        ("train.epochs=5", ("train", "epochs"), 5.0),
        ("train.learning_rate=1e-5", ("train", "learning_rate"), 1e-5),
        ("train.steps=null", ("train", "steps"), None),
        ("data.validation=more.csv", ("data", "validation"), "more.csv"),
        ("data.train=more.csv", ("data", "train"), "more.csv"),
        ('task.text="a: b"', ("task", "text"), "a: b"),
        ("task.several=true", ("task", "several"), True),
        ("task.class_weights={yes: 2.0}", ("task", "class_weights"), {"yes": 2.0}),
        ("model.name=builtin:tiny-bert", ("model", "name"), "builtin:tiny-bert"),
        ("schedules.0.warmup=0.3", ("schedules", 0, "warmup"), 0.3),
        ("regularizers=[l2_sp]", ("regularizers", 0, "name"), "l2_sp"),
    ],
)
def test_overrides(override: str, place: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    text = "data: rows.csv\ntask: classify\nmodel: builtin:tiny-gpt2\nschedules: [{name: warmup_cosine}]\n"
    found: Any = from_source(write(tmp_path, text), [override]).values()
    for key in place:
        found = found[key]
    assert found == value and type(found) is type(value)


def test_a_setting_of_a_method_needs_its_name() -> None:
    recipe = from_source_of(LEAST, ["method.name=lora", "method.rank=3"])
    assert isinstance(recipe.method, Lora) and recipe.method.rank == 3
    with pytest.raises(RecipeError, match=r"command line: method\.rank: is unknown"):
        from_source_of(LEAST, ["method.rank=3"])


def from_source_of(values: dict[str, Any], overrides: list[str]) -> Any:
    from tunesmith.recipe import _widened

    return resolve(document.override(document.Document(values, {}), overrides, _widened))


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        ({"train": {"epochs": 1, "seed": 2}}, {"train": {"epochs": 5}}, {"train": {"epochs": 5, "seed": 2}}),
        ({"method": "lora"}, {"method": {"rank": 2}}, {"method": {"name": "lora", "rank": 2}}),
        ({"method": {"name": "lora", "rank": 2}}, {"method": {"name": "full"}}, {"method": {"name": "full"}}),
        ({"method": {"name": "lora", "rank": 2}}, {"method": "full"}, {"method": "full"}),
        ({}, {"method": {"x": 1}}, {"method": {"name": "full", "x": 1}}),
        ({"data": "a.csv"}, {"data": {"test": None}}, {"data": {"train": "a.csv", "test": None}}),
        ({"model": "a"}, {}, {"model": "a"}),
    ],
)
def test_sections_on_top_of_others(below: Any, above: Any, expected: Any) -> None:
    assert merged(below, above) == expected


def test_a_bare_file_is_a_recipe(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    with listening() as notes:
        recipe = from_source(rows, values={"method": "lora"})
    assert recipe.data.train == str(rows) and recipe.method.word() == "lora"
    assert recipe.task.model_dump(include={"text", "label"}) == {"text": "text", "label": "label"}
    assert notes == ["Task: classify (text = column 'text', label = column 'label'), by the file's columns."]


def test_a_format_is_told_as_a_format_and_not_as_a_column(tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text('{"messages": [{"role": "user", "content": "x"}]}\n', encoding="utf-8")
    with listening() as notes:
        from_source(tmp_path / "talks.jsonl", values={})
    assert notes == ["Task: generate (format = messages), by the file's columns."]


@pytest.mark.parametrize(
    ("header", "row", "word"),
    [
        ("text,label", "a,b", "classify"),
        ("text,score", "a,1.5", "regress"),
        ("sentence1,sentence2,score", "a,b,3", "regress"),
    ],
)
def test_the_task_follows_from_the_columns(header: str, row: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{header}\n{row}\n")
    assert from_source(path).task.word() == word


def test_settings_without_a_name_pick_the_task_that_has_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("words,grade\na,1\n")
    recipe = from_values({"data": str(path), "task": {"text": "words", "score": "grade"}})
    assert recipe.task.word() == "regress"
    assert recipe.task.model_dump(include={"text", "score"}) == {"text": "words", "score": "grade"}
    with pytest.raises(RecipeError, match=r"no task suits the columns of .*: words, grade; say which"):
        from_values({"data": str(path)})


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(DataError, match=r"none\.csv"):
        from_source("none.csv")


def test_all_faults_are_told_together_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "data: rows.csv\n"
        "task: {name: clasify}\n"
        "methd: lora\n"
        "train:\n"
        "  epochs: many\n"
        "  batch_size: 0\n"
        "schedules:\n"
        "  - {name: early_stop, patience: 0}\n",
    )
    with pytest.raises(RecipeError) as caught:
        from_source(path)
    told = caught.value.message
    for line, word in (
        (2, "task.name: No task is called 'clasify'. Did you mean 'classify'"),
        (3, "methd: is unknown. Did you mean 'method'"),
        (5, "train.epochs: 'many' is not a number"),
        (6, "train.batch_size: 0 is out of range: must be at least 1"),
        (8, "schedules.0.patience: 0 is out of range"),
    ):
        assert f"line {line}: {word}" in told
    assert told.count("\n  - ") == 5
