"""Soups of finished runs: the mean is the mean, what is taken is what the rule says, and what can't be is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests import toy
from tests.tasks import test_answer_span
from tunesmith import api
from tunesmith.core.errors import RecipeError, RunFolderError
from tunesmith.evaluate import stats
from tunesmith.serve import session, soup
from tunesmith.serve.merge import Mix

Tensors = dict[str, torch.Tensor]
NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs of one recipe under three seeds, each with its own copy of the data."""
    return trained(tmp_path_factory.mktemp("full"), method="full", train={"epochs": 10, "learning_rate": 0.01})


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return trained(tmp_path_factory.mktemp("lora"), method="lora", train={"learning_rate": 0.03})


def trained(folder: Path, **values: Any) -> list[Path]:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "RESAMPLES", 4)
        for seed, name in enumerate(NAMES):
            (folder / name).mkdir()
            found.append(toy.run(folder / name, **{**values, "train": {**values.get("train", {}), "seed": seed}}))
    return found


def weights(folder: Path) -> Tensors:
    return load_file(folder / "model.safetensors")


def mean(several: Sequence[Tensors]) -> Tensors:
    return {name: sum(one[name] for one in several) / len(several) for name in several[0]}  # type: ignore[misc]


def accuracy(run: Path, split: str, tensors: Tensors, folder: Path) -> float:
    """By transformers alone, one row at a time."""
    shutil.copytree(run / "model", folder, dirs_exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in (run / "predictions" / f"{split}.jsonl").read_text().splitlines()]
    found = [model.config.id2label[toy.logits(model, tokenizer, [row["text"]]).argmax().item()] for row in rows]
    return sum(answer == row["label"] for answer, row in zip(found, rows, strict=True)) / len(rows)


def spoilt(run: Path, folder: Path, by: float = -3.0) -> Path:
    """The same run with its head multiplied: turned round, what was likely is unlikely."""
    shutil.copytree(run, folder)
    tensors = weights(folder / "model")
    tensors["classifier.weight"] *= by
    tensors["classifier.bias"] *= by
    save_file(tensors, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_uniform_soup_is_the_mean_of_all_weights(full: list[Path], tmp_path: Path) -> None:
    done = api.merge(full, tmp_path / "soup", Mix(soup="uniform"))
    expected, found = mean([weights(run / "model") for run in full]), weights(tmp_path / "soup")
    assert set(found) == set(expected)
    assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in expected.items())
    # By hand for one number of the head, which starts from another seed in every run.
    numbers = [weights(run / "model")["classifier.weight"][0, 0].item() for run in full]
    assert len(set(numbers)) == 3
    assert found["classifier.weight"][0, 0].item() == pytest.approx(sum(numbers) / 3, abs=1e-7)
    for split in ("validation", "test"):
        assert done[split] == pytest.approx(accuracy(full[0], split, expected, tmp_path / "by-hand"))
    assert json.loads((tmp_path / "soup" / "soup.json").read_text()) == done
    assert done["taken"] == [one["folder"] for one in done["curve"]] and len(done["taken"]) == 3
    assert [one["seed"] for one in done["runs"]] == [0, 1, 2]


def test_a_greedy_soup_follows_the_rule(full: list[Path], tmp_path: Path) -> None:
    runs = [spoilt(full[0], tmp_path / "spoilt"), *full, spoilt(full[0], tmp_path / "louder", 1.5)]
    done = api.merge(runs, tmp_path / "soup", Mix(soup="greedy"))
    tensors = {str(run): weights(run / "model") for run in runs}

    def measured(folders: Sequence[str], split: str = "validation") -> float:
        return accuracy(full[0], split, mean([tensors[folder] for folder in folders]), tmp_path / "by-hand")

    alone = {str(run): measured([str(run)]) for run in runs}
    assert {one["folder"]: one["validation"] for one in done["runs"]} == pytest.approx(alone)
    assert {one["folder"]: one["test"] for one in done["runs"]} == pytest.approx(
        {str(run): measured([str(run)], "test") for run in runs}
    )
    order = [one["folder"] for one in done["curve"]]
    assert order == sorted(alone, key=lambda folder: -alone[folder])
    taken: list[str] = []
    best = -1.0
    for one in done["curve"]:
        value = measured([*taken, one["folder"]])
        assert (one["taken"], one["validation"]) == (value >= best, pytest.approx(value))
        if value >= best:
            taken, best = [*taken, one["folder"]], value
    assert done["taken"] == taken and done["validation"] == pytest.approx(best) and best >= max(alone.values())
    # What answers alike does not harm, what turns all answers round does.
    assert {str(runs[1]), str(runs[4])} <= set(taken) and str(runs[0]) not in taken
    assert done["test"] == pytest.approx(measured(taken, "test"))
    found = weights(tmp_path / "soup")
    expected = mean([tensors[folder] for folder in taken])
    assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in expected.items())


def test_of_deltas_it_is_the_mean_of_their_products(lora: list[Path], tmp_path: Path) -> None:
    merged = []
    for number, run in enumerate(lora):
        session.load(run, "cpu").merge(tmp_path / str(number))
        merged.append(weights(tmp_path / str(number)))
    done = api.merge(lora, tmp_path / "soup", Mix(soup="uniform"))
    found, expected = weights(tmp_path / "soup"), mean(merged)
    assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in expected.items())
    # As a small run it predicts, and holds the same weights.
    small = api.merge(lora, tmp_path / "small", Mix(soup="uniform"), as_delta="exact")
    assert small["curve"] == done["curve"] and small["relative_error"] == 0.0
    assert json.loads((tmp_path / "small" / "soup.json").read_text())["taken"] == small["taken"]
    loaded = session.load(tmp_path / "small", "cpu")
    assert torch.equal(loaded.backbone.model.state_dict()["classifier.weight"], found["classifier.weight"])
    assert len(loaded.predict(["amber basil", "delta"])) == 2


def test_a_soup_of_one_model_is_that_model(full: list[Path], tmp_path: Path) -> None:
    for how in ("uniform", "greedy"):
        done = api.merge([full[1]] * 3, tmp_path / how, Mix(soup=how))
        found, expected = weights(tmp_path / how), weights(full[1] / "model")
        assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in expected.items())
        assert len(done["taken"]) == 3 and {one["validation"] for one in done["curve"]} == {done["validation"]}


def test_the_table_says_who_is_in(full: list[Path], tmp_path: Path) -> None:
    done = api.merge([*full, spoilt(full[2], tmp_path / "spoilt")], tmp_path / "soup", Mix(soup="greedy"))
    (table,) = soup.panels(done)
    rows: Any = table.rows  # type: ignore[union-attr]
    assert [row[0] for row in rows] == [*(one["folder"] for one in done["curve"]), "soup"]
    assert [row[3] for row in rows[:-1]] == ["in" if one["taken"] else "out" for one in done["curve"]]
    assert rows[-1][4:] == [done["validation"], done["test"]]


def test_less_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    data = tmp_path / "rows.txt"
    data.write_text("\n".join(f"{toy.WORDS[n % 16]} {toy.WORDS[n * 5 % 16]} {n}" for n in range(48)), encoding="utf-8")
    values = {
        "model": "builtin:tiny-bert", "task": "fill", "method": "lora",
        "data": {"train": str(data), "validation": 0.3, "test": None},
    }  # fmt: skip
    train = {"steps": 8, "batch_size": 8, "device": "cpu", "precision": "float32"}
    runs = [
        api.train({**values, "train": {**train, "seed": seed, "learning_rate": rate}}, out=tmp_path / str(seed)).folder
        for seed, rate in enumerate((0.0001, 0.03))
    ]
    done = api.merge(runs, tmp_path / "soup", Mix(soup="greedy"))
    first, second = (one["validation"] for one in done["runs"])
    assert done["metric"] == "perplexity" and not done["higher_is_better"]
    assert second < first and done["curve"][0] == {"folder": str(runs[1]), "taken": True, "validation": second}
    assert done["curve"][1]["taken"] == (done["curve"][1]["validation"] <= second)
    assert done["validation"] == min(second, done["curve"][1]["validation"])
    assert done["test"] is None and "no test split" in soup.panels(done)[0].note  # type: ignore[union-attr]


def test_answers_are_settled_for_the_soup(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in test_answer_span.toy_rows(32)]
    runs = []
    for seed, name in enumerate(NAMES[:2]):
        (tmp_path / name).mkdir()
        data = tmp_path / name / "rows.jsonl"
        data.write_text("\n".join(rows) + "\n", encoding="utf-8")
        values = {
            "model": "builtin:tiny-bert", "task": "answer_span", "data": {"train": str(data), "validation": 0.3},
            "train": {"steps": 3, "batch_size": 8, "seed": seed, "device": "cpu"}, "method": "lora",
        }  # fmt: skip
        runs.append(api.train(values, out=tmp_path / name / "run").folder)
    api.merge(runs, tmp_path / "soup", Mix(soup="uniform"), as_delta="exact")
    states = [json.loads((run / "task.json").read_text()) for run in (*runs, tmp_path / "soup")]
    assert len({json.dumps(state) for state in states}) == 3
    assert states[0].keys() == states[2].keys()


def refused(runs: list[Path], out: Path, told: str, kind: type[Exception] = RecipeError, **mix: Any) -> None:
    with pytest.raises(kind, match=told):
        api.merge(runs, out, Mix(**{"soup": "greedy", **mix}))
    assert not out.exists()


def test_what_can_not_be_is_refused(full: list[Path], lora: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(full, out, r"--soup 'stew' is unknown. Known: greedy, uniform", soup="stew")
    refused(full[:1], out, "--soup takes the mean of several runs, 1 is given")
    refused([], out, "no run is given")
    refused(full, out, "leave --how, --weights, --density and --seed out", weights=(1.0, 1.0, 1.0))
    refused(full, out, "leave --how", how="ties")
    # Another method on the same backbone and rows may be in a soup; another backbone may not.
    assert len(api.merge([full[0], lora[0]], tmp_path / "both", Mix(soup="uniform"))["taken"]) == 2
    (tmp_path / "gpt2").mkdir()
    other = toy.run(tmp_path / "gpt2", model="builtin:tiny-gpt2", method="lora")
    refused([lora[0], other], out, "belongs to the backbone builtin:tiny-gpt2", ValueError)


def test_heads_of_other_meaning_are_refused(full: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    classes = shutil.copytree(full[1], tmp_path / "classes")
    task = classes / "task.json"
    task.write_text(task.read_text().replace('"maybe"', '"never"'))
    refused([full[0], classes], out, "have other classes: maybe, no, yes and never, no, yes. Their heads have no mean")
    recipe = (classes / "recipe.yaml").read_text()
    assert "name: classify" in recipe
    (tmp_path / "regress").mkdir()
    lines = ["text,score", *(f"{toy.WORDS[n % 16]} {n},{n}" for n in range(40))]
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    data = {"train": str(tmp_path / "rows.csv"), "validation": 0.2}
    other = toy.run(tmp_path / "regress", task="regress", data=data)
    refused([full[0], other], out, "have other tasks: classify and regress")


def test_other_rows_are_refused(full: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "seed").mkdir()
    rows = toy.write_csv(tmp_path / "rows.csv")
    split = {"train": str(rows), "validation": 0.2, "test": 0.2, "split_seed": 5}
    other = toy.run(tmp_path / "seed", data=split)
    refused([full[0], other], out, f"the validation rows of {other} are not those of {full[0]}")
    (tmp_path / "none").mkdir()
    other = toy.run(tmp_path / "none", data={"train": str(rows), "validation": None, "test": 0.2})
    refused([other, full[0]], out, f"the run {other} has no validation split")
    rows.write_text(rows.read_text() + "amber more,yes\n", encoding="utf-8")
    refused([other, full[0]], out, f"The data changed since the run {other} began", RunFolderError)
