"""Models that were trained elsewhere: what their heads mean, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tests.evaluate import suites
from tunesmith import elsewhere
from tunesmith.core import registry
from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.part import Task
from tunesmith.elsewhere import Wanted


@pytest.fixture
def folder(full_run: Path, tmp_path: Path) -> Path:
    """A plain model's folder, away from its run."""
    shutil.copytree(full_run / "model", tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return toy.write_csv(tmp_path / "test.csv", 9)


def renamed(folder: Path, names: list[str], **more: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(number): name for number, name in enumerate(names)}
    config["label2id"] = {name: number for number, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps({**config, **more}))


def values(found: dict[str, Any], subject: str = "model") -> dict[str, float]:
    return {one["name"]: one["value"] for one in found["suites"]["task"]["figures"] if one["subject"] == subject}


def test_classes_stand_in_the_order_of_the_head(folder: Path, data: Path, tmp_path: Path) -> None:
    # The run sorts its classes (maybe, no, yes); with two names changed over, their answers must change over too.
    found, told = elsewhere.found(str(folder), Wanted(data=data, task="classify"), tmp_path / "one")
    renamed(folder, ["no", "maybe", "yes"])
    other, _ = elsewhere.found(str(folder), Wanted(data=data, task="classify"), tmp_path / "two")
    lines = [[json.loads(line)["prediction"] for line in (tmp_path / name / "test.jsonl").read_text().splitlines()]
             for name in ("one", "two")]  # fmt: skip
    swap = {"no": "maybe", "maybe": "no", "yes": "yes"}
    assert [swap[one] for one in lines[0]] == lines[1]
    assert told["data"]["test"]["rows"] == 9 and set(told["data"]) == {"test"}
    assert {one["subject"] for one in found["suites"]["task"]["figures"]} == {"model", "most frequent class"}
    assert other["metric"] == "accuracy"


def test_unnamed_outputs_are_never_guessed(folder: Path, data: Path, tmp_path: Path) -> None:
    plain, _ = elsewhere.found(str(folder), Wanted(data=data, task="classify"), tmp_path / "one")
    renamed(folder, ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(DataError) as caught:
        elsewhere.found(str(folder), Wanted(data=data, task="classify"), tmp_path / "two")
    assert caught.value.message.count("the head has no") == 9 and "--label LABEL_0=no" in caught.value.hint
    labels = {"LABEL_0": "maybe", "LABEL_1": "no", "LABEL_2": "yes"}
    named, _ = elsewhere.found(str(folder), Wanted(data=data, task="classify", labels=labels), tmp_path / "two")
    assert values(named) == values(plain)
    with pytest.raises(ModelError, match=r"--label LABEL_7=no: the head has no 'LABEL_7'"):
        elsewhere.found(str(folder), Wanted(data=data, task="classify", labels={"LABEL_7": "no"}), tmp_path / "x")


def test_what_it_was_before_gives_the_baseline_and_must_be_its_kin(folder: Path, data: Path, tmp_path: Path) -> None:
    wanted = Wanted(data=data, task="classify", before="builtin:tiny-bert", suites=["task", "drift"])
    found, _ = elsewhere.found(str(folder), wanted, tmp_path / "one")
    assert values(found, "untrained head") and found["suites"]["drift"]["figures"]
    with pytest.raises(ModelError, match="was not made from builtin:tiny-gpt2"):
        elsewhere.found(str(folder), Wanted(data=data, task="classify", before="builtin:tiny-gpt2"), tmp_path / "two")
    with listening() as notes:
        found, _ = elsewhere.found(str(folder), Wanted(data=data, suites=["drift"]), tmp_path / "two")
    assert found["suites"]["drift"]["figures"] == [] and "failed" not in found["suites"]["drift"]
    assert any("'drift': not measured, because it is not known what the model was" in text for text in notes)


def test_slices_are_columns_of_the_file(folder: Path, data: Path, tmp_path: Path) -> None:
    wanted = Wanted(data=data, task="classify", suites=[{"name": "task", "slices": ["label"]}])
    found, _ = elsewhere.found(str(folder), wanted, tmp_path / "one")
    assert any(panel["title"] == "accuracy on test by label" for panel in found["suites"]["task"]["panels"])
    with pytest.raises(DataError, match="no column 'lable'"):
        wanted = Wanted(data=data, task="classify", suites=[{"name": "task", "slices": ["lable"]}])
        elsewhere.found(str(folder), wanted, tmp_path / "two")


def test_a_head_that_is_not_there_or_means_something_else_is_refused(
    folder: Path, data: Path, lora_run: Path, tmp_path: Path
) -> None:
    def refused(match: str, name: Path | str = folder, **more: Any) -> None:
        with pytest.raises((ModelError, RecipeError), match=match):
            elsewhere.found(str(name), Wanted(**{"data": data, "task": "classify", **more}), tmp_path / "none")

    refused("classifier.bias, classifier.weight missing", _without_head(folder, tmp_path / "bare"))
    refused("holds a delta", lora_run / "model")
    refused("has random weights", "builtin:tiny-bert")
    refused("can't be measured on a model that was trained elsewhere. Known: ", task="choose")
    refused("there are no rows to measure it on", data=None)
    renamed(folder, ["a", "b", "c"], problem_type="regression")
    refused("these are no classes")


def _without_head(folder: Path, out: Path) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    save_file(kept, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_a_score_is_taken_as_it_stands(tmp_path: Path) -> None:
    rows = "\n".join(["text,score", *(f"amber {number} basil,{number}" for number in range(40)), ""])
    (tmp_path / "scores.csv").write_text(rows)
    toy.run(tmp_path, task="regress", data={"train": str(tmp_path / "scores.csv"), "test": 0.2})
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "theirs")
    wanted = Wanted(data=tmp_path / "scores.csv", task="regress")
    found, _ = elsewhere.found(str(tmp_path / "theirs"), wanted, tmp_path / "one")
    # The mean of 0 … 39, as no training rows are given; its error is their standard deviation.
    assert values(found, "mean score")["rmse"] == pytest.approx((sum((n - 19.5) ** 2 for n in range(40)) / 40) ** 0.5)
    line = json.loads((tmp_path / "one" / "test.jsonl").read_text().splitlines()[0])
    assert abs(line["prediction"]) < 5  # standardised, as the plain model gives it


ADOPTING = [
    name for name in registry.names("tasks")
    if registry.load("tasks", name).adopt is not Task.adopt  # type: ignore[attr-defined]
]  # fmt: skip
MODELS = {"generate": "builtin:tiny-gpt2", "classify_image": "builtin:tiny-vit"}


@pytest.mark.parametrize("name", ADOPTING)
def test_a_plain_model_scores_what_it_scored_where_it_was_made(name: str, tmp_path: Path) -> None:
    ours = toy.prepared({"task": name, "model": MODELS.get(name, "builtin:tiny-bert")}, count=12)
    rows = toy.rows_for(ours.recipe.task, 12)
    lines = [{key: value for key, value in row.items() if key != "line"} for row in rows]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = Wanted(data=data, task=name, settings=["train.precision=float32"])
    found, _ = elsewhere.found(str(toy.save(ours, tmp_path / "theirs")), wanted, tmp_path / "one")
    theirs = values(found)
    assert "failed" not in found["suites"]["task"] and theirs
    if name == "regress":  # its scale is the run's; see above
        return
    own = suites.finished(ours, {"test": rows})
    expected = own.task.metrics(own.task.truths(rows), own.predict("test").answers)
    assert theirs == pytest.approx({key: value for key, value in expected.items() if key in theirs}, rel=1e-5)
