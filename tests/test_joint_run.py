"""Several tasks that train together, from the recipe to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import tunesmith
from tests import toy
from tests.trackers import fakes
from tunesmith import check, joint_run
from tunesmith.core.errors import RecipeError, RunFolderError
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt
from tunesmith.train.log import lines


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    rows = toy.write_csv(tmp_path / "rows.csv")
    texts = [f"{' '.join(toy.WORDS[n % 9 : n % 9 + 3])} {n},{n % 5}" for n in range(30)]
    (tmp_path / "numbers.csv").write_text("\n".join(["text,score", *texts, ""]), encoding="utf-8")
    held = {"validation": 0.2, "test": 0.2}
    return {
        "model": "builtin:tiny-bert",
        "tasks": {
            "kind": {"task": "classify", "data": {"train": str(rows), **held}},
            "size": {"task": "regress", "data": {"train": str(tmp_path / "numbers.csv"), **held}},
        },
        "train": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32", "learning_rate": 3e-3},
    }


def test_every_task_is_a_finished_run_of_its_own(values: dict[str, Any], tmp_path: Path) -> None:
    run = tunesmith.train(values, out=tmp_path / "run")
    assert run.finished
    assert {path.name for path in run.folder.iterdir() if not path.name.startswith(".")} == {
        "kind", "size", "recipe.yaml", "metrics.jsonl", "evaluation.json", "report.html",
    }  # fmt: skip
    for name, shown in (("kind", toy.CLASSES), ("size", None)):
        answers = tunesmith.load(run.folder / name).predict(["amber basil"])
        assert shown is None or answers[0]["prediction"] in shown
        assert "<html" in (run.folder / name / "report.html").read_text(encoding="utf-8")[:200]
        assert json.loads((run.folder / name / "proof.json").read_text())["largest_difference"] <= 1e-5
    # Plain transformers loads each; the bodies are the same, the heads are not.
    kind, size = (
        transformers.AutoModelForSequenceClassification.from_pretrained(run.folder / name / "model")
        for name in ("kind", "size")
    )
    assert (kind.config.num_labels, size.config.num_labels) == (3, 1)
    theirs = size.bert.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in kind.bert.state_dict().items())


def test_a_task_of_several_files_tells_what_was_seen_of_each(values: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"other {n} text,{toy.CLASSES[n % 3]}\n" for n in range(12)))
    values["tasks"]["kind"]["data"]["mix"] = [{"file": str(other), "weight": 1.0}]
    run = tunesmith.train(values, out=tmp_path / "run")
    seen = {
        name: [line["seen"] for line in lines(run.folder / name / "metrics.jsonl") if line["event"] == "files"]
        for name in ("kind", "size")
    }
    turns = [line for line in lines(run.folder / "metrics.jsonl") if line["event"] == "files"]
    assert seen["size"] == [] and seen["kind"] == [turns[0]["seen"]] and len(turns) == 1
    panels = json.loads((run.folder / "kind" / "data.json").read_text())["panels"]
    (table,) = [one for one in panels if one["title"] == "Files of the training"]
    assert [row[3] for row in table["rows"]] == seen["kind"][0] and "Counted" in table["note"]


def test_figures_of_all_tasks_stand_together(values: dict[str, Any], tmp_path: Path) -> None:
    run = tunesmith.train(values, out=tmp_path / "run")
    own = {name: json.loads((run.folder / name / "evaluation.json").read_text()) for name in ("kind", "size")}
    main = [
        next(f["value"] for f in one["suites"]["task"]["figures"]
             if (f["name"], f["split"], f["subject"]) == (one["metric"], "test", "model"))
        for one in own.values()
    ]  # fmt: skip
    figures = run.evaluation["suites"]["task"]["figures"]
    (score,) = [figure["value"] for figure in figures if figure["split"] == "test"]
    assert score == pytest.approx(sum(main) / 2)
    evaluations = [line for line in lines(run.folder / "metrics.jsonl") if line["event"] == "evaluation"]
    assert {"loss", "score", "kind accuracy"} <= set(evaluations[0]["metrics"])
    alone = [line for line in lines(run.folder / "kind" / "metrics.jsonl") if line["event"] == "evaluation"]
    assert alone[0]["metrics"]["accuracy"] == evaluations[0]["metrics"]["kind accuracy"]
    assert "size" not in " ".join(alone[0]["metrics"])
    found = [line for line in lines(run.folder / "metrics.jsonl") if line["event"] == "found"]
    assert [panel["title"] for panel in found[0]["panels"]] == ["Turns of the tasks", "Do the gradients agree?"]


@pytest.mark.parametrize("method", ["lora", "bottleneck", "prefix", "bitfit", "head_only"])
def test_with_a_small_method_each_task_ships_its_delta_and_head(
    method: str, values: dict[str, Any], tmp_path: Path
) -> None:
    run = tunesmith.train({**values, "method": method, "regularizers": ["l2_sp"]}, out=tmp_path / "run")
    sizes = {}
    for name in ("kind", "size"):
        assert tunesmith.load(run.folder / name).predict(["amber basil"])
        (file,) = (run.folder / name / "model").glob("*.safetensors")
        sizes[name] = {key: tensor.shape for key, tensor in load_file(file).items()}
    assert not any("beside" in key for one in sizes.values() for key in one)
    shared = {key for key in sizes["kind"] if "classifier" not in key}
    assert shared == {key for key in sizes["size"] if "classifier" not in key}


def test_interrupted_and_resumed_it_ends_the_same(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**values, "objective": {"name": "multi_task", "uncertainty": True, "sampling": "annealed"}}
    whole = tunesmith.train(values, out=tmp_path / "whole")
    asked = iter([False, False, False, True])
    monkeypatch.setattr(Interrupt, "asked", lambda self: next(asked, False))
    assert not tunesmith.train(values, out=tmp_path / "run").finished
    assert tunesmith.resume(tmp_path / "run").finished
    for name in ("kind", "size"):
        files = [
            load_file(folder / name / "model" / "model.safetensors") for folder in (whole.folder, tmp_path / "run")
        ]
        assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])
    assert tunesmith.resume(tmp_path / "run").finished  # once more: nothing but the page


def test_heads_that_read_other_tokens_train_together(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text(
        "\n".join(f"{n} " + " ".join(toy.WORDS[n % 7 : n % 7 + 6]) for n in range(60)) + "\n"
    )
    tasks = {
        "words": {"task": "fill", "data": {"train": str(tmp_path / "corpus.txt"), "validation": 0.2, "test": 0.2}},
        "kind": values["tasks"]["kind"],
    }
    run = tunesmith.train({**values, "tasks": tasks}, out=tmp_path / "run")
    assert run.finished and tunesmith.load(run.folder / "words").predict(["amber [MASK] cedar"])
    notes = [line["text"] for line in lines(run.folder / "metrics.jsonl") if line["event"] == "note"]
    assert any("speed.unread is off" in text for text in notes)


def test_shortcuts_change_nothing_but_rounding(values: dict[str, Any], tmp_path: Path) -> None:
    made = toy.prepared({}).backbone
    # With dropout the two would draw other masks.
    made.model.config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    made.model.save_pretrained(tmp_path / "still")
    made.tokenizer.save_pretrained(tmp_path / "still")
    found = []
    for speed in ("plain", "auto"):
        run = tunesmith.train({**values, "model": str(tmp_path / "still"), "speed": speed}, out=tmp_path / speed)
        found.append(load_file(run.folder / "size" / "model" / "model.safetensors"))
    assert all(torch.allclose(found[0][key], found[1][key], atol=1e-4) for key in found[0])


def test_the_whole_folder_is_no_model(values: dict[str, Any], tmp_path: Path) -> None:
    run = tunesmith.train({**values, "train": {**values["train"], "steps": 1}}, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match="holds several tasks") as caught:
        tunesmith.load(run.folder)
    assert str(run.folder / "kind") in str(caught.value.hint)
    assert joint_run.there(run.folder) and not joint_run.there(run.folder / "kind")


def test_check_looks_at_every_task(values: dict[str, Any]) -> None:
    facts = check.check_all(tunesmith.stages.read(values)).facts
    assert {"kind examples", "size examples", "estimated_seconds"} <= set(facts)


def test_a_weight_of_no_task_is_refused_before_anything_is_written(values: dict[str, Any], tmp_path: Path) -> None:
    objective = {"name": "multi_task", "weights": {"nothing": 1.0}}
    with pytest.raises(RecipeError, match="no task is called 'nothing'"):
        tunesmith.train({**values, "objective": objective}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trackers_are_told_of_every_task(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fakes.wandb(monkeypatch)
    run = tunesmith.train(
        {**values, "track": ["wandb"], "train": {**values["train"], "epochs": 1}}, out=tmp_path / "run"
    )
    told = {name for call in ("log", "update") for given in fake.of(call) for name in given[0]}
    assert {"train/loss", "validation/score", "validation/kind accuracy", "notes"} <= told
    assert {"task/test/score", "kind/task/test/accuracy", "size/task/test/pearson"} <= told
    assert len(fake.of("init")) == 1 and fake.of("finish") == [({"exit_code": 0},)]
    assert fake.of("log_artifact")[0][0] == str(run.folder / "report.html")
