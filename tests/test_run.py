"""A run from its recipe to its report: the folder explains itself, repeats itself and goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from tests import toy
from tunesmith import run as runs
from tunesmith.core.errors import ArtifactError, DataError, RunFolderError
from tunesmith.core.files import read_json
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt
from tunesmith.models import artifact
from tunesmith.recipe import Recipe, from_source, from_values
from tunesmith.train import loop
from tunesmith.train.log import lines

FILES = {
    "recipe.yaml", "environment.json", "data.json", "task.json", "probe.json", "proof.json", "metrics.jsonl",
    "model", "predictions", "evaluation.json", "report.html", ".lock",
}  # fmt: skip


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 4)


def recipe_on(rows: Path, **values: Any) -> Recipe:
    train = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu", "precision": "float32"}
    return from_values(
        {
            "model": "builtin:tiny-bert",
            "data": {"train": str(rows), "validation": 0.2, "test": 0.2},
            **values,
            "train": train | values.get("train", {}),
        }
    )


def answers(folder: Path, split: str = "test") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions" / f"{split}.jsonl").read_text().splitlines()]


def test_the_folder_holds_everything_and_nothing_else(full_run: Path) -> None:
    assert {path.name for path in full_run.iterdir()} == FILES
    assert not [path for path in full_run.rglob("*") if path.name.startswith((".tmp-", "best-"))]
    suffixes = {path.suffix for path in full_run.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".yaml", ".html", ".md", ".safetensors", ".jinja", ""}


def test_the_record_tells_the_run(full_run: Path) -> None:
    told = lines(full_run / "metrics.jsonl")
    events = [line["event"] for line in told]
    assert events[0] == "start" and {"step", "evaluation", "note", "end"} <= set(events)
    assert told[0]["total_steps"] == max(line["step"] for line in told if line["event"] == "step")
    notes = [line["text"] for line in told if line["event"] == "note"]
    assert any("parameters train (100.00 %)" in text for text in notes)
    environment = read_json(full_run / "environment.json")
    assert environment["seed"] == 0 and {"train", "validation", "test"} == set(environment["data"])


@pytest.mark.usefixtures("few_resamples")
def test_a_loss_that_does_not_fall_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    runs.start(recipe_on(rows, train={"learning_rate": 1e-9, "log_every": 1}), tmp_path / "still")
    assert "The training loss hardly changed" in caplog.text or "The training loss rose" in caplog.text
    caplog.clear()
    runs.start(recipe_on(rows, train={"epochs": 20}), tmp_path / "learns")
    assert "The training loss" not in caplog.text


def test_what_was_saved_is_what_was_measured(full_run: Path) -> None:
    # Plain transformers reads model/ and gives the labels that stand in predictions/.
    found = answers(full_run)
    model = AutoModelForSequenceClassification.from_pretrained(full_run / "model")
    tokenizer = runs.Run(full_run, True).session().backbone.tokenizer
    logits = toy.logits(model, tokenizer, [line["text"] for line in found])
    names = [model.config.id2label[number] for number in logits.argmax(dim=-1).tolist()]
    assert [line["prediction"] for line in found] == names
    figures = read_json(full_run / "evaluation.json")["suites"]["task"]["figures"]
    values = {(one["name"], one["split"], one["subject"]): one["value"] for one in figures}
    assert values["accuracy", "test", "model"] == pytest.approx(
        np.mean([line["prediction"] == line["label"] for line in found])
    )
    proof = read_json(full_run / "evaluation.json")["artifact"]
    assert proof["largest_difference"] == 0.0 and proof["compared_rows"] > 0


def test_what_it_cost(lora_run: Path) -> None:
    evaluation = read_json(lora_run / "evaluation.json")
    cost = evaluation["cost"]
    steps = [line for line in lines(lora_run / "metrics.jsonl") if line["event"] == "step"]
    # Two passes over the training rows.
    assert cost["seconds"] * cost["examples_per_second"] == pytest.approx(
        2 * read_json(lora_run / "environment.json")["data"]["train"]["rows"]
    )
    assert cost["seconds"] == pytest.approx(sum(line["seconds"] for line in steps))
    # Four linears of 32 by 32 with rank 8, and the head.
    assert cost["trained_parameters"] == 4 * 8 * 64 + 99
    assert cost["peak_memory_bytes"] > 1e8


@pytest.mark.usefixtures("few_resamples")
def test_the_resolved_recipe_repeats_the_run(full_run: Path, tmp_path: Path) -> None:
    again = runs.start(from_source(full_run / "recipe.yaml"), tmp_path / "again").folder
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (full_run, again))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert answers(full_run) == answers(again)
    assert yaml.safe_load((again / "recipe.yaml").read_text()) == yaml.safe_load((full_run / "recipe.yaml").read_text())


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_interrupted_run_goes_on_to_the_same_end(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"method": method, "schedules": ["early_stop"], "regularizers": ["l2_sp"], "train": {"log_every": 1}}
    rows = toy.write_csv(tmp_path / "rows.csv")
    whole = runs.start(recipe_on(rows, **values), tmp_path / "whole").folder
    asked = iter([False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "asked", lambda self: next(asked))
        halted = runs.start(recipe_on(rows, **values), tmp_path / "halted")
    assert not halted.finished and not (halted.folder / "model").exists()
    assert runs.resume(halted.folder).finished
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    assert (whole / "model" / name).read_bytes() == (halted.folder / "model" / name).read_bytes()
    assert answers(whole) == answers(halted.folder)
    found = [
        [(line["step"], line["loss"]) for line in lines(folder / "metrics.jsonl") if line["event"] == "step"]
        for folder in (whole, halted.folder)
    ]
    assert found[0] == found[1]


def fail(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    "kill", ["tunesmith.run.measure.suites", "tunesmith.trained.artifact.load", "tunesmith.run.page.write"]
)
def test_killed_after_training_it_trains_no_more(kill: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_on(toy.write_csv(tmp_path / "rows.csv"))
    with monkeypatch.context() as patch:
        patch.setattr(kill, fail)
        with pytest.raises(KeyboardInterrupt):
            runs.start(recipe, tmp_path / "run")
    before = lines(tmp_path / "run" / "metrics.jsonl")
    evaluated = [line for line in before if line["event"] == "evaluation"]
    assert runs.resume(tmp_path / "run").finished
    after = lines(tmp_path / "run" / "metrics.jsonl")
    assert [line for line in after if line["event"] == "evaluation"] == evaluated
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


@pytest.mark.usefixtures("few_resamples")
def test_a_model_that_does_not_give_what_was_trained_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = artifact.write

    def tampered(backbone: Any, method: Any, task: Any, folder: Path) -> None:
        backbone.model.classifier.bias.data += 1.0
        write(backbone, method, task, folder)

    monkeypatch.setattr(artifact, "write", tampered)
    with pytest.raises(ArtifactError, match="The saved model gives other outputs"):
        runs.start(recipe_on(toy.write_csv(tmp_path / "rows.csv")), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists() and not (tmp_path / "run" / "evaluation.json").exists()


@pytest.mark.usefixtures("few_resamples")
def test_without_held_out_rows_a_run_still_ends(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    data = {"train": str(rows), "validation": None, "test": None}
    run = runs.start(recipe_on(rows, data=data, train={"steps": 2}), tmp_path / "run")
    assert run.finished and run.evaluation["suites"]["task"]["figures"] == []
    assert run.session().predict(["amber"])[0]["prediction"] in toy.CLASSES


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda folder: (folder / "recipe.yaml").write_text("model: a"), "holds a run already(.|\n)*tunesmith resume"),
        (lambda folder: (folder / "mine.txt").write_text("mine"), "is not a run: nothing in it is touched"),
    ],
)
def test_a_folder_that_is_taken_is_not_touched(prepare: Callable[[Path], Any], told: str, tmp_path: Path) -> None:
    recipe = recipe_on(toy.write_csv(tmp_path / "rows.csv"))
    (tmp_path / "run").mkdir()
    prepare(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(RunFolderError, match=told):
        runs.start(recipe, tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_what_is_wrong_is_told_before_anything_is_written(tmp_path: Path) -> None:
    recipe = recipe_on(toy.write_csv(tmp_path / "rows.csv"), model=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="does not exist"):
        runs.start(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", [{"test": 0.2}, {"validation": 0.2}, {"test": "own"}], ids=str)
def test_slices_of_columns_that_are_not_there_are_refused_before_the_training(
    data: dict[str, Any], tmp_path: Path
) -> None:
    path = toy.write_csv(tmp_path / "rows.csv")
    if data.get("test") == "own":
        # The column need not be in the training file.
        own = tmp_path / "test.csv"
        rows = [f"a very {n} thing,{'yes' if n % 2 else 'no'},s" for n in range(8)]
        own.write_text("\n".join(["text,label,shop", *rows]))
        data = {"test": str(own)}
    suite = {"name": "task", "slices": ["label", "shop", "lable"]}
    recipe = recipe_on(path, data={"train": str(path), "validation": None, "test": None, **data}, evaluate=[suite])
    with pytest.raises(DataError, match="no column 'lable'") as caught:
        runs.start(recipe, tmp_path / "run")
    assert ("no column 'shop'" in caught.value.message) == (not isinstance(data.get("test"), str))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_another_process_writes_to_is_told(full_run: Path) -> None:
    with FileLock(full_run / runs.LOCK), pytest.raises(RunFolderError, match="Another process is writing"):
        runs.resume(full_run)


def test_a_finished_run_has_only_its_report_written_anew(
    full_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(full_run, folder)
    (folder / "report.html").unlink()
    before = (folder / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(loop, "train", fail)
    assert runs.resume(folder).finished
    assert (folder / "report.html").is_file() and (folder / "metrics.jsonl").read_bytes() == before


def test_the_usual_name_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs.time, "strftime", lambda form: "20250102-030405")
    recipe = recipe_on(toy.write_csv(tmp_path / "rows.csv"), method="lora")
    assert runs.new_folder(recipe, None) == Path("runs/rows-lora-20250102-030405")
