"""Stages whose deltas stand on those of earlier ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tunesmith
from tests import toy
from tunesmith import measure, stages
from tunesmith import run as runs
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.core.files import read_json
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


def stacked(values: dict[str, Any]) -> dict[str, Any]:
    """Three stages, of which the later ones stand on the earlier ones, one that can't be merged among them."""
    own = [{"method": "lora", "train": {"learning_rate": 0.05}}, {"method": "bottleneck"}, {"method": "ia3"}]
    return {**values, "model": {"name": "builtin:tiny-bert", "earlier": "stack"}, "stages": own}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            [{"method": "bottleneck"}, {"method": "lora", "model": {"earlier": "stack"}}, {}],
            "Stage 2: method: the next stage can't start from a delta of 'bottleneck'",
        ),
        ([{}, {"method": "lora", "model": {"earlier": "stack"}}], "Stage 2: model.earlier: 'full' trains weights"),
        ([{"method": "lora"}, {"model": {"earlier": "stack"}}], "Stage 2: model.earlier: 'full' trains weights"),
        (
            [{"method": "prefix"}, {"method": "prompt", "model": {"earlier": "stack"}}],
            "Stage 2: model.earlier: 'prefix' and 'prompt' both put virtual tokens",
        ),
        (
            [{"method": "lora"}, {"method": "lora", "model": {"earlier": "stack", "quantize": "nf4"}}],
            "Stage 2: model: a stack stays on one backbone, in one dtype and one quantize.",
        ),
        ([{"method": "lora", "model": {"earlier": "stack"}}], "Stage 1: model.earlier: stack is said, but no stage is"),
        ([{"method": "lora"}, {"model": {"earlier": ["a"]}}], "Stage 2: model.earlier names runs, but what lies below"),
        (
            [{"method": "lora"}, {"model": {"earlier": "stuck"}}],
            "model.earlier: 'stuck' is not allowed. Did you mean",
        ),
        ([{"method": "lora"}, {"model": {"earlier": []}}], "Stage 2: model.earlier names runs"),
    ],
)
def test_wrong_stacks_are_refused(given: Any, told: str, values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        stages.read({**values, "stages": given})
    assert told in caught.value.message


def test_a_stage_may_stand_on_the_deltas_of_the_earlier_ones(values: dict[str, Any], tmp_path: Path) -> None:
    run = tunesmith.train(stacked(values), out=tmp_path / "run")
    first, second, third = (tmp_path / "run" / f"{number}-classify" for number in (1, 2, 3))
    assert run.finished and not (first / "merged").exists()
    told = [yaml.safe_load((place / "recipe.yaml").read_text())["model"] for place in (first, second, third)]
    assert {one["name"] for one in told} == {"builtin:tiny-bert"} and told[0]["earlier"] == "merge"
    assert told[1]["earlier"] == [str(first / "model")]
    assert told[2]["earlier"] == [str(second / "model" / "earlier" / "1-classify"), str(second / "model")]
    assert read_json(third / "proof.json")["largest_difference"] < 1e-6
    evaluation = runs.Run(third, True).evaluation
    assert evaluation["title"] == "classify with ia3 on builtin:tiny-bert with 2 earlier deltas"
    # What a stage measures before its training is what the one before it came to, its head included.
    suites = [runs.Run(place, True).evaluation["suites"]["task"]["figures"] for place in (second, third)]
    before, after = ([(f["name"], f["split"], f["value"]) for f in one
                      if f["subject"] == subject and f["split"] != "train"]
                     for one, subject in zip(suites, ("model", "untrained head"), strict=True))  # fmt: skip
    assert before == after
    # The earlier runs are no longer needed, nor is this process.
    shutil.move(third, tmp_path / "alone")
    shutil.rmtree(tmp_path / "run")
    here = [line["prediction"] for line in tunesmith.load(tmp_path / "alone").predict(["amber basil", "delta"])]
    (tmp_path / "new.csv").write_text("text\namber basil\ndelta\n", encoding="utf-8")
    command = [sys.executable, "-m", "tunesmith", "predict", str(tmp_path / "alone"), str(tmp_path / "new.csv")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [json.loads(line)["prediction"] for line in ended.stdout.splitlines()] == here
    assert measure.again(tmp_path / "alone", tmp_path / "rows.csv", ["task"])["metric"] == "accuracy"
    with pytest.raises(ModelError, match="A delta of 'bottleneck' can't be merged"):
        tunesmith.merge(tmp_path / "alone", tmp_path / "plain")
    assert tunesmith.resume(tmp_path / "alone").finished


def test_stacked_stages_go_on_where_they_stopped(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = stacked(values)
    whole = tunesmith.train(given, out=tmp_path / "whole")
    asked = iter([False, False, True])  # after the first of two updates of the second stage
    monkeypatch.setattr(Interrupt, "asked", lambda self: next(asked, False))
    assert not tunesmith.train(given, out=tmp_path / "run").finished
    assert not (tmp_path / "run" / "3-classify").exists()
    done = tunesmith.resume(tmp_path / "run")
    for name in ("2-classify/model/delta.safetensors", "3-classify/model/adapter_model.safetensors"):
        ours, theirs = (load_file(folder.parent / name) for folder in (done.folder, whole.folder))
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_a_stage_may_merge_what_is_stacked(values: dict[str, Any], tmp_path: Path) -> None:
    own = [{"method": "lora"}, {"method": "ia3", "model": {"earlier": "stack"}}, {"method": "lora"}]
    run = tunesmith.train({**values, "stages": own}, out=tmp_path / "run")
    told = yaml.safe_load((run.folder / "recipe.yaml").read_text())["model"]
    assert told["name"] == str(tmp_path / "run" / "2-classify" / "merged") and told["earlier"] == "merge"


def test_a_run_alone_may_name_deltas_but_no_stages(values: dict[str, Any], tmp_path: Path) -> None:
    alone = {key: value for key, value in values.items() if key != "stages"}
    with pytest.raises(RecipeError, match="stack is said, but there is no earlier stage"):
        stages.read({**alone, "model": {"name": "builtin:tiny-bert", "earlier": "stack"}})
    first = tunesmith.train({**alone, "method": "lora"}, out=tmp_path / "first")
    on = {"name": "builtin:tiny-bert", "earlier": [str(first.folder)]}
    second = tunesmith.train({**alone, "method": "lora", "model": on}, out=tmp_path / "second")
    assert second.evaluation["title"].endswith("with 1 earlier delta")
    with pytest.raises(RecipeError, match="'full' trains weights"):
        tunesmith.train({**alone, "model": on}, out=tmp_path / "third")
    assert not (tmp_path / "third").exists()
    with pytest.raises(RecipeError, match="earlier names deltas of a model that others have too"):
        stages.read({**alone, "model": {"family": "bert", "earlier": ["x"]}})
