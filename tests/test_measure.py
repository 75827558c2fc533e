"""Measuring a finished run again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import toy
from tunesmith import measure
from tunesmith.core.errors import DataError, RecipeError, RunFolderError
from tunesmith.core.files import read_json
from tunesmith.core.notes import listening
from tunesmith.evaluate import temperature
from tunesmith.evaluate.task import Task


def figures(measured: dict[str, Any], split: str = "test") -> list[dict[str, Any]]:
    return [one for one in measured["suites"]["task"]["figures"] if one["split"] == split]


def test_on_the_same_rows_the_figures_are_the_same(full_run: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.jsonl"
    rows = [json.loads(line) for line in (full_run / "predictions" / "test.jsonl").read_text().splitlines()]
    data.write_text("\n".join(json.dumps({"text": row["text"], "label": row["label"]}) for row in rows))
    found = measure.again(full_run, data, ["task"])
    assert figures(found) == figures(read_json(full_run / "evaluation.json"))
    assert found["metric"] == "accuracy" and found["title"].endswith(f"measured on {data}")


def test_rows_that_are_cut_are_told(full_run: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.jsonl"
    data.write_text("\n".join(json.dumps({"text": text, "label": "yes"}) for text in ("short", "x" * 300)))
    with listening() as notes:
        measure.again(full_run, data, ["task"])
    assert "1 of 2 test rows are longer than the limit and were cut." in notes


def test_without_data_it_is_what_was_measured_at_the_end(full_run: Path) -> None:
    assert measure.again(full_run, None, ["task"]) == read_json(full_run / "evaluation.json")


def test_baselines_are_those_of_the_training_split(full_run: Path, tmp_path: Path) -> None:
    data = toy.write_csv(tmp_path / "rows.csv", 9)
    constants = {one["name"]: one["value"] for one in figures(measure.again(full_run, data, ["task"]))
                 if one["subject"] == "most frequent class"}  # fmt: skip
    assert constants["accuracy"] == pytest.approx(1 / 3) and constants["matthews"] == 0.0


def test_every_unknown_class_is_told_with_its_line(full_run: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\na,yes\nb,perhaps\nc,no\nd,mabye\n")
    with pytest.raises(DataError) as caught:
        measure.again(full_run, data, ["task"])
    assert "line 3: No class of this model is called 'perhaps'" in caught.value.message
    assert "line 5: No class of this model is called 'mabye'. Did you mean 'maybe'?" in caught.value.message


def test_what_is_not_there_is_told(full_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No suite is called 'tsk'"):
        measure.again(full_run, full_run.parent / "rows.csv", ["tsk"])
    for name in ("recipe.yaml", "task.json"):
        (tmp_path / name).write_bytes((full_run / name).read_bytes())
    with pytest.raises(RunFolderError, match="is not finished"):
        measure.again(tmp_path, None, ["task"])


def test_lines_of_a_file_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(json.dumps({"n": n, "text": "\u2028"}, ensure_ascii=False) for n in range(5)))
    assert [line["n"] for line in measure._lines(path, [3, 0, 3])] == [3, 0, 3]
    assert measure._lines(path, []) == []


def test_a_suite_that_fails_is_told_and_the_others_run(full_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Task, finished: Any) -> Any:
        raise ValueError("no such thing")

    data = full_run / "predictions" / "test.jsonl"
    monkeypatch.setattr(Task, "measure", broken)
    with listening() as notes:
        found = measure.again(full_run, data, ["task"])
    failed = found["suites"]["task"]
    assert (failed["figures"], failed["panels"], failed["failed"]) == ([], [], "ValueError: no such thing")
    assert "The suite 'task' failed: ValueError: no such thing" in notes


def test_a_suite_has_the_settings_of_the_runs_recipe_and_its_temperature(full_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(full_run, folder)
    outside = tmp_path / "outside.txt"
    outside.write_text("zebra\nyak\n")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    suites = [{"name": "calibration", "store": True}, {"name": "ood", "length": False, "outside": str(outside)}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "evaluate": suites}))
    temperature.write(folder, 2.0, 9)
    kept = (folder / temperature.FILE).read_bytes()
    found = measure.again(folder, full_run.parent / "rows.csv", ["calibration", "ood"])["suites"]
    heat = {one["subject"]: one["value"] for one in found["calibration"]["figures"] if one["name"] == "temperature"}
    assert heat == {"with temperature": 2.0}
    # With its defaults it would tell of lengths.
    assert {one["subject"] for one in found["ood"]["figures"]} == {"maximum probability", "energy"}
    assert (folder / temperature.FILE).read_bytes() == kept
