"""Several stages in one recipe."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import BertForSequenceClassification

import tunesmith
from tests import toy
from tunesmith import check, cli, continual, explain, stages
from tunesmith import run as runs
from tunesmith.core.errors import DataError, DivergedError, RecipeError, RunFolderError
from tunesmith.core.notes import listening
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    rows = toy.write_csv(tmp_path / "rows.csv")
    return {
        "model": "builtin:tiny-bert",
        "task": "classify",
        "data": {"train": str(rows), "validation": 0.2, "test": 0.2},
        "train": {"steps": 2, "batch_size": 8, "device": "cpu", "precision": "float32"},
        "stages": [{"method": "lora", "train": {"learning_rate": 0.01}}, {}],
    }


def test_a_stage_stands_above_the_recipe(values: dict[str, Any]) -> None:
    first, second = stages.read(values)
    assert len(stages.read(values)) == 2
    assert (first.method.word(), first.train.learning_rate, first.train.steps) == ("lora", 0.01, 2)
    assert (second.method.word(), second.train.learning_rate) == ("full", None)
    (alone,) = stages.read({key: value for key, value in values.items() if key != "stages"})
    assert alone.method.word() == "full"


def test_a_stage_starts_from_the_model_before_it(values: dict[str, Any], tmp_path: Path) -> None:
    run = tunesmith.train(values, out=tmp_path / "run")
    assert run.finished and run.folder == tmp_path / "run" / "2-classify"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "1-classify", "2-classify", "stages.yaml", "continual.json", "report.html",
    }  # fmt: skip
    merged = tmp_path / "run" / "1-classify" / "merged"
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["model"]["name"] == str(merged.resolve())
    # What the second starts from is what the first came to: the same figures before its training.
    answers = tunesmith.load(run.folder).predict(["amber basil"])
    assert answers[0]["prediction"] in toy.CLASSES


def test_a_stage_leaves_no_model_behind(values: dict[str, Any], tmp_path: Path) -> None:
    models: list[int] = []

    def watch(line: dict[str, Any]) -> None:
        if line["event"] == "start":
            models.append(sum(type(one) is BertForSequenceClassification for one in gc.get_objects()))

    # A schedule that holds the training to its end.
    kept = {**values, "stages": [{"schedules": [{"name": "unfreeze", "steps": 1}]}] * 3}
    gc.collect()
    stages.start(stages.read(kept), tmp_path / "run", watch)
    assert len(models) == 3 and len(set(models)) == 1


def test_stages_go_on_where_they_stopped(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tunesmith.train(values, out=tmp_path / "whole")
    asked = iter([False, False, False, True])
    monkeypatch.setattr(Interrupt, "asked", lambda self: next(asked, False))
    stopped = tunesmith.train({**values, "train": {**values["train"], "steps": 3}}, out=tmp_path / "run")
    assert not stopped.finished and stopped.folder == tmp_path / "run"
    done = tunesmith.resume(tmp_path / "run")
    assert done.finished and done.folder.name == whole.folder.name
    assert tunesmith.resume(whole.folder).finished  # one of its runs alone


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("two", "stages must be a list of mappings"),
        ([], "stages must be a list of mappings"),
        ([{}, {"model": "builtin:minilm"}], "Stage 2: model: 'builtin:minilm' is given, but a stage starts from"),
        ([{"method": "prompt"}, {}], "Stage 1: method: the next stage can't start from a delta of 'prompt'"),
        ([{"method": "lor"}, {"train": {"epoch": 1}}], "Stage 2: The recipe is wrong"),
        ([{"method": "lor"}, {"method": "lor"}], "Stage 1 and Stage 2: The recipe is wrong"),
    ],
)
def test_wrong_stages_are_refused(given: Any, told: str, values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        stages.read({**values, "stages": given})
    assert told in caught.value.message


def test_faults_of_stages_name_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("task: classify\ndata: rows.csv\nstages:\n  - {}\n  - train:\n      epoch: 1\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"Stage 2:.*\n.*line 6: train.epoch"):
        stages.read(path)


def test_check_and_explain_show_every_stage(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    found = check.check_all(stages.read(path))
    assert found.facts["1-classify updates"] == found.facts["2-classify updates"] == 2
    assert {panel.title.split(":")[0] for panel in found.panels} == {"1-classify", "2-classify"}
    assert {step[0][:2] for step in explain.explain(str(path)).steps} == {"1.", "2."}


def test_a_folder_that_holds_stages_is_not_written_over(values: dict[str, Any], tmp_path: Path) -> None:
    tunesmith.train(values, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match="holds stages already") as caught:
        tunesmith.train(values, out=tmp_path / "run")
    assert "tunesmith resume" in caught.value.hint
    with pytest.raises(RunFolderError, match="is not a run") as caught:
        tunesmith.load(tmp_path / "run")
    assert "2-classify" in caught.value.hint
    assert runs.Run(tmp_path / "run" / "2-classify", True).evaluation["title"].startswith("classify with full")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"alone": 1}, "alone: 1 is neither true nor false"),
        ({"alone": "yes"}, "alone: 'yes' is neither true nor false"),
        ({"alone": True, "stages": None}, "alone: True goes with `stages`"),
        ({"stages": [{"alone": True}, {}]}, "Stage 1: The recipe is wrong:\n  - alone: is unknown"),
    ],
)
def test_alone_is_true_or_false_beside_stages(given: Any, told: str, values: dict[str, Any]) -> None:
    assert not stages.read(values).alone and stages.read({**values, "alone": True}).alone
    with pytest.raises(RecipeError) as caught:
        stages.read({**values, **given})
    assert told in caught.value.message


def test_a_stage_alone_is_a_run_of_its_own(values: dict[str, Any], tmp_path: Path) -> None:
    helped = {"regularizers": ["replay", "l2_sp"], "train": {"learning_rate": 0.01, "seed": 2}}
    given = {**values, "alone": True, "stages": [{}, helped]}
    with listening() as said:
        run = tunesmith.train(given, out=tmp_path / "run")
    assert run.folder == tmp_path / "run" / "2-classify" and run.sequence == tmp_path / "run"
    assert "2-classify-alone has no earlier stage to look back at: replay left out." in said
    # The same as the recipe of this stage by itself, without what looks back.
    single = {key: value for key, value in values.items() if key != "stages"}
    by_itself = tunesmith.train(
        {**single, "regularizers": ["l2_sp"], "train": {**values["train"], **helped["train"]}}, out=tmp_path / "single"
    )
    alone = tmp_path / "run" / "2-classify-alone"
    for name in ("model/model.safetensors", "predictions/test.jsonl"):
        assert (alone / name).read_bytes() == (by_itself.folder / name).read_bytes()
    known = continual.read(tmp_path / "run")
    second = known["stages"]["2-classify"]
    assert second["alone_without"] == ["replay"] and "alone" not in known["stages"]["1-classify"]
    assert known["summary"]["intransigence"] == pytest.approx(second["alone"] - second["row"]["2-classify"])
    # Nothing is trained a second time.
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("metrics.jsonl")}
    assert len(before) == 3 and tunesmith.resume(tmp_path / "run").finished
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("metrics.jsonl")}
    assert continual.read(tmp_path / "run") == known


def test_what_has_nothing_to_compare_is_not_trained_alone(values: dict[str, Any], tmp_path: Path) -> None:
    with listening() as said:
        tunesmith.train({**values, "alone": True, "stages": [{}, {"data": {"test": None}}]}, out=tmp_path / "run")
    assert "2-classify-alone is not trained: 2-classify has no figure to compare it with." in said
    assert not (tmp_path / "run" / "2-classify-alone").exists()


def test_faults_of_later_stages_are_told_before_the_first_trains(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("text,kind\na,b\n")
    (tmp_path / "bad.csv").write_text("text,label\na,\n")
    named = {"name": "classify", "text": "text", "label": "label"}
    old = {"name": "replay", "data": str(tmp_path / "old.csv")}
    given = [
        {},
        {"data": {"train": str(tmp_path / "none.csv")}, "task": named},
        {"data": {"train": str(tmp_path / "other.csv")}, "task": named},
        {"data": {"validation": str(tmp_path / "bad.csv")}, "model": {"quantize": "nf4"}},
        {"regularizers": [old], "schedules": ["early_stop"], "data": {"validation": None}},
    ]
    with pytest.raises(DataError) as caught:
        tunesmith.train({**values, "stages": given}, out=tmp_path / "run")
    lines = caught.value.message
    for told in (
        "Stage 2: ", "none.csv", "Stage 3: ", "no column 'label'", "Stage 4: ", "bad.csv has 1 fault",
        "in 4 bits: no gradient can move them", "Stage 5: early_stop acts on evaluations", "old.csv",
    ):  # fmt: skip
        assert told in lines, told
    assert "Stage 1" not in lines and not (tmp_path / "run").exists()


def test_a_first_stage_that_cant_begin_leaves_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text,label\na,x\nb,x\nc,y\n")
    values["stages"][0]["data"] = {"train": str(tmp_path / "few.csv"), "validation": None, "test": None}
    with pytest.raises(DataError, match=r"Stage 1 of 2 \(1-classify\): .*\n.*class 'y' has one example") as caught:
        tunesmith.train(values, out=tmp_path / "run")
    assert not (tmp_path / "run").exists() and "resume" not in caught.value.hint


def test_a_later_stage_with_bad_rows_leaves_the_others_and_goes_on_when_they_are_mended(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    third = tmp_path / "third.csv"
    third.write_text(
        "text,label\n" + "".join(f"{toy.WORDS[n % 16]} {n},{'z' if n == 9 else n % 2}\n" for n in range(30))
    )
    values["stages"] = [{"method": "lora"}, {}, {"data": {"train": str(third), "validation": None, "test": 0.2}}]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert cli.main(["train", str(tmp_path / "r.yaml"), "--out", str(run)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "error: Stage 3 of 3 (3-classify): " in told and "class 'z' has one example" in told
    assert f"Finished, each with its model: {run / '1-classify'} and {run / '2-classify'}." in told
    assert f"Go on with: tunesmith resume {run}" in told and "remove" not in told
    for name in ("1-classify", "2-classify"):
        assert tunesmith.load(run / name).predict(["amber basil"])[0]["prediction"] in toy.CLASSES
    assert "1-classify" in (run / "report.html").read_text(encoding="utf-8")
    kept = (run / "2-classify" / "metrics.jsonl").read_bytes()
    third.write_text(third.read_text().replace(",z", ",1"))
    assert cli.main(["resume", str(run)]) == 0
    shown = capsys.readouterr().out
    assert (run / "2-classify" / "metrics.jsonl").read_bytes() == kept
    assert set(continual.read(run)["stages"]["3-classify"]["row"]) == {"1-classify", "2-classify", "3-classify"}
    # What is printed at the end: every task, the sequence, a sentence, and where it lies.
    assert "Every task on its test rows" in shown and "forward transfer" in shown
    assert "after its own stage" in shown and str(run / "report.html") in "".join(shown.split())
    assert cli.main(["resume", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sequence"] == continual.read(run)


def test_a_stage_that_diverges_can_be_trained_anew(values: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    values["stages"] = [{}, {}, {"train": {"learning_rate": 1e38, "steps": 4}}]
    with pytest.raises(DivergedError) as caught:
        tunesmith.train(values, out=run)
    assert caught.value.exit_status == 2 and caught.value.message.startswith("Stage 3 of 3 (3-classify): The ")
    hint = caught.value.hint
    assert f"change {run / 'stages.yaml'} and remove {run / '3-classify'} first." in hint
    assert f"tunesmith resume {run}" in hint and f"{run / '1-classify'} and {run / '2-classify'}" in hint
    assert tunesmith.load(run / "2-classify").predict(["amber"])
    given = yaml.safe_load((run / "stages.yaml").read_text())
    given["stages"][2]["train"]["learning_rate"] = 1e-4
    (run / "stages.yaml").write_text(yaml.safe_dump(given))
    shutil.rmtree(run / "3-classify")
    done = tunesmith.resume(run)
    assert done.finished and "learning_rate: 0.0001" in (done.folder / "recipe.yaml").read_text()


def test_a_damaged_list_of_stages_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "stages.yaml").write_text("stages: 3\n")
    with pytest.raises(RecipeError, match="stages must be a list"):
        tunesmith.resume(tmp_path)


def test_check_leaves_out_what_looks_back(values: dict[str, Any]) -> None:
    values["stages"] = [{}, {"regularizers": ["distill"]}]
    with listening() as said:
        found = check.check_all(stages.read({**values, "alone": True}))
    assert "Stage 2: distill look back at earlier stages, and are left out of its estimate." in said
    one, two = (found.facts[f"{number}-classify estimated_seconds"] for number in (1, 2))
    assert found.facts["estimated_seconds"] == pytest.approx(one + 2 * two)
