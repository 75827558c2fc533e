"""A sequence of stages: every earlier test split is answered again, with its own head over the new body."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith import api, continual, stages
from tunesmith.core.files import write_json
from tunesmith.core.notes import listening
from tunesmith.evaluate import stats


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 4)


def sequence(folder: Path, **more: Any) -> dict[str, Any]:
    rows = str(toy.write_csv(folder / "rows.csv"))
    return {
        "model": "builtin:tiny-bert",
        "data": {"train": rows, "test": 0.3, "near_duplicates": False},
        "train": {"epochs": 1, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu", "precision": "float32"},
        "task": {"name": "classify", "text": "text", "label": "label"},
        **more,
    }


def run(folder: Path, given: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    done = stages.start(stages.read(sequence(folder, stages=given, **more)), folder / "run")
    assert done.finished
    found: dict[str, Any] = json.loads((folder / "run" / continual.FILE).read_text())
    return found


def single(folder: Path, **more: Any) -> Path:
    """A single run of the same recipe."""
    values = sequence(folder)
    values |= {**more, "train": {**values["train"], **more.get("train", {})}}
    return api.train(values, out=folder / "single").folder


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_matrix_of_two_stages(method: str, tmp_path: Path) -> None:
    found = run(tmp_path, [{}, {"train": {"epochs": 2}}], method=method)
    first, second = found["stages"].values()
    assert set(first["row"]) == {"1-classify"} and set(second["row"]) == {"1-classify", "2-classify"}
    own = json.loads((tmp_path / "run" / "2-classify" / "evaluation.json").read_text())["suites"]["task"]["figures"]
    value = next(
        one["value"] for one in own if (one["name"], one["split"], one["subject"]) == ("accuracy", "test", "model")
    )
    assert second["row"]["2-classify"] == value
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Test metric of every task after every stage" in page and "forgetting" in page


def test_a_stage_that_trains_nothing_forgets_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, [{}, {"method": "head_only"}])
    first, second = found["stages"].values()
    assert second["row"]["1-classify"] == pytest.approx(first["row"]["1-classify"])
    assert found["summary"]["forgetting"] == pytest.approx(0)


def test_old_examples_and_answers_help_in_a_later_stage(tmp_path: Path) -> None:
    helped = {"regularizers": [{"name": "replay", "share": 0.5}, {"name": "distill"}, {"name": "ewc", "examples": 4}]}
    found = run(tmp_path, [{}, helped])
    assert set(found["stages"]["2-classify"]["row"]) == {"1-classify", "2-classify"}
    assert (tmp_path / "run" / "2-classify" / "fisher.safetensors").is_file()


def test_references_of_a_body_that_never_changes(tmp_path: Path) -> None:
    # The head of three classes says nothing of the score, so that every head is fresh.
    first, second = {"task": {"name": "regress", "text": "text", "score": "score"}}, {}
    with (tmp_path / "scores.csv").open("w", encoding="utf-8") as file:
        file.writelines(["text,score\n", *(f"{toy.WORDS[n % 16]} {n},{n % 5}\n" for n in range(40))])
    data = {"train": str(tmp_path / "scores.csv"), "test": 0.3, "near_duplicates": False}
    found = run(tmp_path, [{**first, "data": data}, second], method="head_only")
    one, two = found["stages"].values()
    assert one["before"] == one["untrained"] != one["row"]["1-regress"]
    assert two["before"] == two["untrained"] and found["summary"]["forward transfer"] == 0
    assert "intransigence" not in found["summary"] and one["unmeasured"] == two["unmeasured"] == {}


def test_the_untrained_reference_is_the_first_model_with_the_stages_own_head(tmp_path: Path) -> None:
    # Three classes then two: the second head is fresh in the sequence, and follows the stage's seed in both places.
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,label\n" + "".join(f"{toy.WORDS[n % 16]} {n},{n % 2 > 0}\n" for n in range(40)))
    data = {"train": str(pairs), "test": 0.5, "near_duplicates": False}
    found = run(tmp_path, [{}, {"data": data, "train": {"seed": 3}}])
    second = found["stages"]["2-classify"]
    alone = single(tmp_path, data=data, train={"seed": 3})
    figures = json.loads((alone / "evaluation.json").read_text())["suites"]["task"]["figures"]
    (untrained,) = (
        one["value"]
        for one in figures
        if (one["name"], one["split"], one["subject"]) == ("accuracy", "test", "untrained head")
    )
    assert second["untrained"] == untrained
    assert found["summary"]["forward transfer"] == pytest.approx(second["before"] - untrained)


def test_what_cant_be_measured_is_said_with_its_reason(tmp_path: Path) -> None:
    given = [{}, {"data": {"test": None}}, {"evaluate": []}]
    with listening() as said:
        found = run(tmp_path, given)
    first, second, third = found["stages"].values()
    assert (first["unmeasured"], second["unmeasured"]) == ({}, {"2-classify": "it has no test split."})
    assert third["unmeasured"] == {"3-classify": "its recipe does not measure it: `evaluate` leaves out `task`."}
    assert set(third["row"]) == {"1-classify"} and "untrained" not in third
    assert "Not measured after 2-classify: 2-classify, as it has no test split." in said
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Not measured" in page and "it has no test split." in page


def test_a_class_that_keeps_body_and_head_in_one_is_said(tmp_path: Path) -> None:
    rows = tmp_path / "pairs.csv"
    rows.write_text("prompt,completion\n" + "".join(f"{word} {word},{word}\n" for word in toy.WORDS))
    data = {"train": str(rows), "test": 0.2, "validation": None, "near_duplicates": False}
    found = run(tmp_path, [{}, {}], model="builtin:tiny-t5", task="generate", data=data)
    second = found["stages"]["2-generate"]
    assert "keeps both in one" in second["unmeasured"]["1-generate"] and set(second["row"]) == {"2-generate"}
    assert set(found["summary"]) == {"average", "forward transfer"}


def test_an_undefined_metric_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continual, "_again", lambda place, last: math.nan)
    found = run(tmp_path, [{}, {}])
    why = found["stages"]["2-classify"]["unmeasured"]
    assert why == {"1-classify": "the accuracy is not defined for these answers."}


def test_what_an_earlier_version_wrote_is_gone_on_with(tmp_path: Path) -> None:
    run(tmp_path, [{}, {}])
    known = json.loads((tmp_path / "run" / continual.FILE).read_text())
    first = {key: known["stages"]["1-classify"][key] for key in ("metric", "higher_is_better", "row")}
    write_json(tmp_path / "run" / continual.FILE, {"stages": {"1-classify": first}})
    assert stages.resume(tmp_path / "run").finished
    again = continual.read(tmp_path / "run")
    assert again["stages"]["2-classify"] == known["stages"]["2-classify"]
    assert again["summary"] == known["summary"]
