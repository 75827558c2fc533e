"""The list of runs: found at any depth, read from small files, chosen and ordered by any key."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from tests.report.rivals import write_rival
from tunesmith import inventory
from tunesmith.core.errors import RecipeError, RunFolderError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs, one of them deep, and a stage of several."""
    write_rival(tmp_path / "first", 0.6, method="full")
    write_rival(tmp_path / "deep" / "er" / "second", 0.9, seed=4)
    write_rival(tmp_path / "staged" / "1-classify", 0.7)
    (tmp_path / "staged" / "stages.yaml").write_text("stages: []\n")
    for number, name in enumerate(("staged/1-classify", "first", "deep/er/second")):
        os.utime(tmp_path / name / "environment.json", (1e9 + number, 1e9 + number))
    return tmp_path


def names(folder: Path, where: dict[str, object] | None = None, sort: str | None = None) -> list[str]:
    return [one["name"] for one in inventory.runs(folder, where, sort)]


def test_runs_at_any_depth_by_time(folder: Path) -> None:
    assert names(folder) == ["staged/1-classify", "first", "deep/er/second"]
    found = inventory.runs(folder)[1]
    assert (found["task"], found["model"], found["method"], found["state"]) == (
        "classify", "builtin:tiny-bert", "full", "finished",
    )  # fmt: skip
    assert found["metric"] == "accuracy" and found["low"] < found["value"] < found["high"] and found["split"] == "test"
    assert found["seconds"] == 60 and found["trained_share"] == 0.1 and found["when"].startswith("2001-09-")
    assert found["recipe"]["train"]["learning_rate"] == 0.0002 and found["folder"] == str(folder / "first")
    json.dumps(found)


def test_a_run_is_listed_by_its_own_folder_too(folder: Path) -> None:
    assert names(folder / "first") == ["first"]


def test_what_lies_in_a_run_is_no_other_run(folder: Path) -> None:
    write_rival(folder / "first" / "model" / "copy", 0.5)
    write_rival(folder / ".hidden" / "run", 0.5)
    assert len(names(folder)) == 3


def test_chosen_by_columns_and_keys(folder: Path) -> None:
    assert names(folder, {"method": "lora"}) == ["staged/1-classify", "deep/er/second"]
    assert names(folder, {"train.learning_rate": "2e-4", "train.seed": 4}) == ["deep/er/second"]
    assert names(folder, {"method.name": "full", "state": "finished"}) == ["first"]
    assert names(folder, {"train.epochs": "4"}) == []


def test_ordered_either_way(folder: Path) -> None:
    assert names(folder, sort="value") == ["first", "staged/1-classify", "deep/er/second"]
    assert names(folder, sort="-value") == ["deep/er/second", "staged/1-classify", "first"]
    (folder / "first" / "evaluation.json").unlink()
    assert names(folder, sort="value")[-1] == names(folder, sort="-value")[-1] == "first"


def test_unknown_keys_are_refused_with_the_nearest(folder: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        inventory.runs(folder, {"metod": "lora"}, "train.lerning_rate")
    assert "Did you mean 'method'" in str(raised.value) and "'train.learning_rate'" in str(raised.value)
    with pytest.raises(RecipeError, match="'method' is not of the form"):
        inventory.conditions(["method", "a=b"])
    assert inventory.conditions(["a.b = c=d"]) == {"a.b": "c=d"}


def test_lists_of_parts_are_known_by_their_names(folder: Path) -> None:
    path = folder / "first" / "recipe.yaml"
    path.write_text(path.read_text().replace("regularizers: []", "regularizers: [{name: ewc, strength: 2.0}]"))
    assert names(folder, {"regularizers": "ewc"}) == names(folder, {"regularizers.0.strength": 2}) == ["first"]


def test_a_stopped_run_and_one_that_is_running(folder: Path) -> None:
    run = folder / "first"
    (run / "evaluation.json").unlink()
    assert inventory.runs(run)[0]["state"] == "stopped"
    with FileLock(run / ".lock"):
        assert inventory.runs(run)[0]["state"] == "running"
    assert inventory.runs(run)[0]["state"] == "stopped"


def test_tasks_that_train_together_are_runs_under_one_lock(tmp_path: Path) -> None:
    both = tmp_path / "both"
    for task in ("one", "two"):
        (write_rival(both / task, 0.8) / "evaluation.json").unlink()
    (both / "recipe.yaml").write_text("tasks: {one: {}, two: {}}\n")
    with FileLock(both / ".lock"):
        assert [(one["name"], one["state"]) for one in inventory.runs(tmp_path)] == [
            ("both/one", "running"),
            ("both/two", "running"),
        ]
    (both / "evaluation.json").write_text("{}")
    assert names(tmp_path) == ["both/one", "both/two"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("recipe.yaml", "a: [", "no YAML"),
        ("recipe.yaml", "- a", "no mapping"),
        ("recipe.yaml", None, "is missing"),
        ("evaluation.json", "{", "damaged"),
        ("evaluation.json", '{"suites": 3}', "metric"),
        ("evaluation.json", "[]", "no JSON object"),
    ],
)
def test_a_broken_folder_is_listed_with_what_is_wrong(folder: Path, name: str, text: str | None, told: str) -> None:
    path = folder / "first" / name
    path.unlink() if text is None else path.write_text(text)
    found = {one["name"]: one for one in inventory.runs(folder)}
    assert len(found) == 3 and found["first"]["state"] == "broken" and told in found["first"]["wrong"]


def test_the_table(folder: Path) -> None:
    (folder / "first" / "recipe.yaml").write_text("- [red]")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(*inventory.shown(inventory.runs(folder), folder, ["train.seed", "method"]))
    text = capture.get()
    assert "3 runs in" in text and "accuracy 0." in text and "10 %" in text and "1 min" in text
    assert "first: The file recipe.yaml holds no mapping." in text and text.count("train.seed") == 1
    assert [str(one) for one in inventory.shown([], folder)] == [f"No runs in {folder}."]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist"):
        inventory.runs(tmp_path / "none")
    assert inventory.runs(tmp_path) == [] == inventory.runs(tmp_path, {"method": "lora"})
