"""The model card, read back by the hub's own library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tests import toy
from tunesmith import api
from tunesmith.core.files import read_json, write_json
from tunesmith.serve import card


def head_of(text: str) -> dict[str, object]:
    read = ModelCard(text, ignore_metadata_errors=False)
    assert read.text.lstrip().startswith("# ")
    return read.data.to_dict()  # type: ignore[no-any-return]


def test_the_head_holds_the_figures_with_their_intervals(full_run: Path) -> None:
    text = (full_run / "model" / "README.md").read_text()
    values = head_of(text)
    assert (values["library_name"], values["pipeline_tag"]) == ("transformers", "text-classification")
    assert values["tags"] == ["tunesmith", "classify", "full"]
    assert "base_model" not in values and "license" not in values and "\n# license: " in text
    results = ModelCard(text).data.eval_results
    task = read_json(full_run / "evaluation.json")["suites"]["task"]
    figures = {(one["split"], one["name"]): one for one in task["figures"]
               if one["subject"] == "model" and one["split"] != "train"}  # fmt: skip
    assert results is not None and len(results) == len(figures) == 6
    for one in results:
        figure = figures[str(one.dataset_split), str(one.metric_type)]
        assert one.metric_value == figure["value"] and one.dataset_name == "rows.csv"
        assert one.metric_args["interval"] == [figure["low"], figure["high"]]  # type: ignore[index]


def test_no_path_and_nothing_that_differs_between_equal_runs(full_run: Path, lora_run: Path, tmp_path: Path) -> None:
    for run in (full_run, lora_run):
        text = (run / "model" / "README.md").read_text()
        assert str(run.parent) not in text and "/tmp" not in text
        sha = read_json(run / "environment.json")["data"]["train"]["sha256"]
        assert f"| rows.csv | train | 26 | {sha} |" in text
    other = toy.run(tmp_path, method="full")
    assert (other / "model" / "README.md").read_bytes() == (full_run / "model" / "README.md").read_bytes()


def test_a_recipe_in_the_card_is_the_runs_without_its_folders(full_run: Path) -> None:
    text = (full_run / "model" / "README.md").read_text()
    recipe = yaml.safe_load(text.partition("```yaml\n")[2].partition("\n```")[0])
    own = yaml.safe_load((full_run / "recipe.yaml").read_text())
    assert (
        recipe["data"]["train"] == "rows.csv" and recipe["method"] == own["method"] and recipe["train"] == own["train"]
    )


def test_deltas_and_merged_models_say_how_they_are_loaded(lora_run: Path, tmp_path: Path) -> None:
    text = (lora_run / "model" / "README.md").read_text()
    assert head_of(text)["library_name"] == "peft"
    assert "PeftModel.from_pretrained" in text and "tunesmith.load(" in text and "pipeline(" not in text
    api.merge(lora_run, tmp_path / "merged")
    merged = (tmp_path / "merged" / "README.md").read_text()
    assert head_of(merged)["library_name"] == "transformers" and 'pipeline("text-classification"' in merged
    assert "tunesmith.load(" not in merged and "It was made of one run" in merged and "Suite `task`" in merged
    api.merge([lora_run, lora_run], tmp_path / "mean")
    mean = (tmp_path / "mean" / "README.md").read_text()
    assert "made of 2 runs" in mean and "None were measured on this model itself." in mean
    assert "model-index" not in head_of(mean)
    api.merge(lora_run, tmp_path / "small", as_delta="rank=1")
    assert head_of((tmp_path / "small" / "model" / "README.md").read_text())["library_name"] == "tunesmith"


HOSTILE = ["a|b", "`c`", "<script>x</script>", "d\n---\nlicense: mit\n---\n# e", "[f](http://g)", "\ud800 ![h](i)"]


def test_names_of_classes_and_files_are_no_markup(full_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(full_run, tmp_path / "run")
    write_json(run / "task.json", {**read_json(run / "task.json"), "classes": HOSTILE[:-1], "shares": [0.2] * 5})
    environment = read_json(run / "environment.json")
    environment["data"]["test"]["path"] = "/srv/me/x|y\n---\n<b>`.csv"
    write_json(run / "environment.json", environment)
    evaluation = read_json(run / "evaluation.json")
    evaluation["suites"]["task"]["figures"] += [
        {**evaluation["suites"]["task"]["figures"][0], "name": name, "split": name, "value": 0.5}
        for name in HOSTILE[:-1]
    ]
    evaluation["suites"]["ood"] = {"figures": [], "panels": [], "failed": "the file /srv/me/secret/x.csv is <gone>"}
    write_json(run / "evaluation.json", evaluation)
    text = card.write(run).read_text(encoding="utf-8")
    assert "license" not in head_of(text)
    body = text.split("\n---\n", 1)[1]
    assert "<script>" not in body and "<b>" not in body and "a\\|b" in body and "\\`c\\`" in body
    assert "/srv" not in text and "x.csv is &lt;gone&gt;" in body
    assert not [line for line in body.splitlines() if line.startswith(("---", "license"))]
    for line in body.splitlines():
        if line.startswith("| ") and line.count(" | ") > 3 and "interval" not in line and "---" not in line:
            assert line.replace("\\|", "").count("|") in (5, 6)


def test_a_base_model_of_the_hub_is_named(lora_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(lora_run, tmp_path / "run")
    environment = read_json(run / "environment.json")
    (run / "environment.json").write_text(json.dumps({**environment, "base_model": "someone/base"}))
    text = card.write(run).read_text()
    assert head_of(text)["base_model"] == "someone/base"
    assert 'AutoModelForSequenceClassification.from_pretrained("someone/base", config=config)' in text


@pytest.mark.parametrize("code", ["python"])
def test_what_transformers_is_told_to_do_works(full_run: Path, code: str) -> None:
    text = (full_run / "model" / "README.md").read_text()
    lines = text.partition(f"```{code}\n")[2].partition("\n```")[0]
    exec(lines.replace("path/of/this/folder", str(full_run / "model")), {})
