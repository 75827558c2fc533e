"""Runs are put together by their task vectors, as a model or as a small run; what can't be is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from tests import toy
from tests.serve import made
from tunesmith import api, measure
from tunesmith.core import arithmetic, registry, sharing, surgery
from tunesmith.core.errors import ArtifactError, ModelError, RecipeError, RunFolderError
from tunesmith.core.notes import listening
from tunesmith.core.seeding import generator
from tunesmith.models import artifact
from tunesmith.models.load import load as load_backbone
from tunesmith.serve import attach, difference, merge, session
from tunesmith.serve.merge import Mix

Tensors = dict[str, torch.Tensor]
NAME = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("merge")
    made.run(folder / "lora", method="lora")
    made.run(folder / "full", 1, method="full")
    made.run(folder / "regress", 2, method="lora", task="regress")
    return {name: folder / name for name in ("lora", "full", "regress")}


def folded(folder: Path) -> Tensors:
    model, _ = merge.fold(attach.first(folder, "cpu")[0])
    return {name: tensor.detach() for name, tensor in sharing.named(model).items()}


def backbone(folder: Path) -> Tensors:
    recipe = session.read_recipe(folder)
    model = load_backbone(recipe.model, recipe.task.auto_classes, recipe.task.head(), 0).model
    return {name: tensor.detach() for name, tensor in sharing.named(model).items()}


def written(folder: Path) -> Tensors:
    return {name.removeprefix("bert."): tensor for name, tensor in load_file(folder / "model.safetensors").items()}


def test_one_run_is_written_as_a_session_does(runs: dict[str, Path], tmp_path: Path) -> None:
    session.load(runs["lora"], "cpu").merge(tmp_path / "one")
    done = api.merge(runs["lora"], tmp_path / "two", Mix(weights=(1.0,)))
    assert done["largest_difference"] <= 1e-5 and done["weights"] == [1.0]
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "mix",
    [
        Mix(),
        Mix(weights=(1.0, -1.0)),
        Mix("ties"),
        Mix("ties", (1.0, 0.5), 0.4),
        Mix("dare", density=0.5, seed=3),
        Mix("dare_ties", seed=3),
    ],
    ids=str,
)
def test_runs_are_put_together_by_their_vectors(mix: Mix, runs: dict[str, Path], tmp_path: Path) -> None:
    api.merge([runs["lora"], runs["full"]], tmp_path / "out", mix)
    found, zero = written(tmp_path / "out"), backbone(runs["lora"])
    trained = [folded(runs["lora"]), folded(runs["full"])]
    electing = mix.how in ("ties", "dare_ties")
    weights = mix.weights or ((1.0, 1.0) if electing else (0.5, 0.5))
    for name in (NAME, "pooler.dense.bias", "embeddings.word_embeddings.weight"):
        vectors = [one[name] - zero[name] for one in trained]
        draws = generator(mix.seed or 0, name)
        expected = zero[name] + arithmetic.WAYS[mix.how](vectors, weights, mix.density or 0.2, draws)
        assert torch.equal(found[name], expected), name
    head = [one["classifier.weight"] for one in trained]
    share = max(weights[1], 0) / (weights[0] + max(weights[1], 0))
    assert torch.allclose(found["classifier.weight"], (1 - share) * head[0] + share * head[1])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert not surgery.inserted(model) and model.config.id2label == {0: "maybe", 1: "no", 2: "yes"}


def test_arithmetic_of_whole_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    zero, lora, full = backbone(runs["lora"]), folded(runs["lora"]), folded(runs["full"])
    api.merge([runs["full"]], tmp_path / "half", Mix(weights=(0.5,)))
    assert torch.allclose(written(tmp_path / "half")[NAME], (zero[NAME] + full[NAME]) / 2, atol=1e-7)
    assert torch.equal(written(tmp_path / "half")["classifier.weight"], full["classifier.weight"])
    api.merge([runs["full"], runs["full"]], tmp_path / "none", Mix(weights=(1.0, -1.0)))
    assert torch.allclose(written(tmp_path / "none")[NAME], zero[NAME], atol=1e-7)
    api.merge([runs["full"], runs["lora"]], tmp_path / "sum", Mix(weights=(1.0, 1.0)))
    assert torch.allclose(written(tmp_path / "sum")[NAME], full[NAME] + lora[NAME] - zero[NAME], atol=1e-6)


def test_the_first_head_is_taken_where_tasks_differ(
    runs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "tunesmith"):
        api.merge([runs["regress"], runs["lora"]], tmp_path / "out")
    assert f"The runs have other tasks or classes: the head is that of {runs['regress']}." in caplog.text
    expected = folded(runs["regress"])["classifier.weight"]
    assert torch.equal(written(tmp_path / "out")["classifier.weight"], expected)


@pytest.mark.parametrize("names", [["lora"], ["full"], ["lora", "full"]])
def test_an_exact_delta_works_wherever_a_run_does(names: list[str], runs: dict[str, Path], tmp_path: Path) -> None:
    folders = [runs[name] for name in names]
    api.merge(folders, tmp_path / "plain", Mix("ties") if len(names) > 1 else None)
    done = api.merge(folders, tmp_path / "delta", Mix("ties") if len(names) > 1 else None, as_delta="exact")
    assert done["relative_error"] == 0.0 and done["largest_difference"] < 1e-6
    assert done["bytes"] < done["bytes_of_the_model"]
    found = session.load(tmp_path / "delta", "cpu")
    plain, zero = written(tmp_path / "plain"), sharing.named(found.backbone.model)
    assert all(sharing.same_bits(zero[name], tensor) for name, tensor in plain.items())
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain")
    ours, theirs = (toy.logits(one, found.backbone.tokenizer, made.TEXTS) for one in (found.backbone.model, model))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert len(found.predict(made.TEXTS)) == 3
    rows = toy.write_csv(tmp_path / "rows.csv", 12)
    assert measure.again(tmp_path / "delta", rows, ["task"])["metric"] == "accuracy"
    # And again: merged it is the plain model, and beside others it is itself.
    assert found.merge(tmp_path / "again") == 0.0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "plain" / "model.safetensors"
    ).read_bytes()
    api.merge([tmp_path / "delta", runs["lora"]], tmp_path / "both")
    kept = json.loads((tmp_path / "delta" / "model" / "difference.json").read_text())
    assert [one["folder"] for one in kept["runs"]] == [str(folder) for folder in folders]


def test_a_delta_of_low_rank_is_measured(runs: dict[str, Path], tmp_path: Path) -> None:
    # LoRA's own rank is 8: nothing but rounding is lost.
    near = api.merge(runs["lora"], tmp_path / "near", as_delta="rank=8")
    assert 0 < near["relative_error"] < 1e-5 and near["largest_difference"] < 1e-5
    far = api.merge(runs["full"], tmp_path / "far", as_delta="rank=4")
    assert 0.1 < far["relative_error"] < 1 and far["bytes"] < 0.4 * far["bytes_of_the_model"]
    expected = made.run(tmp_path / "same", 1, method="full")[1]
    found = session.load(tmp_path / "far", "cpu")
    outputs = artifact.outputs(found.backbone.model, found.probe())
    assert artifact.largest_difference(outputs, expected) == pytest.approx(far["largest_difference"], abs=1e-5)
    kept = json.loads((tmp_path / "far" / "model" / "difference.json").read_text())
    assert kept["rank"] == 4 and kept["relative_error"] == far["relative_error"]
    with pytest.raises(ModelError, match="rank 33 is too large"):
        api.merge(runs["full"], tmp_path / "large", as_delta="rank=33")
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize(
    ("mix", "as_delta", "says"),
    [
        (Mix(weights=(1.0,)), None, "--weights: 1 given for 2 runs"),
        (Mix("tie"), None, "--how 'tie' is unknown. Did you mean 'ties'"),
        (Mix(weights=(1.0, float("nan"))), None, "not all are finite"),
        (Mix("ties", density=0.0), None, "--density 0 is not above 0 and at most 1"),
        (Mix(density=0.5), None, "--density goes with --how ties, dare, dare_ties, not with linear"),
        (Mix("ties", seed=1), None, "--seed goes with --how dare, dare_ties, not with ties"),
        (Mix(), "rank=0", "--as-delta 'rank=0' is neither"),
        (Mix(), "low", "--as-delta 'low' is neither 'exact' nor 'rank=N'"),
    ],
)
def test_what_does_not_go_together_is_told(
    mix: Mix, as_delta: str | None, says: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        api.merge([runs["lora"], runs["full"]], tmp_path / "out", mix, as_delta=as_delta)
    assert says in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_words_of_the_command_line() -> None:
    assert merge.mix_of(["dare", "density=0.3", "seed=4"], [1, 2]) == Mix("dare", (1, 2), 0.3, 4)
    assert merge.mix_of([], []) == Mix()
    for word in ("density=x", "seed=0.5", "dens=1"):
        with pytest.raises(RecipeError, match="is neither density=NUMBER nor seed=WHOLE NUMBER"):
            merge.mix_of([word], [])


def test_runs_that_do_not_fit_are_refused(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = made.run(tmp_path / "gpt2", method="lora", model="builtin:tiny-gpt2")
    with pytest.raises(ModelError, match=r"belongs to the backbone builtin:tiny-gpt2"):
        api.merge([runs["lora"], other], tmp_path / "out")
    with pytest.raises(RunFolderError, match="is not an empty folder"):
        api.merge([runs["lora"]], tmp_path)
    with pytest.raises(RecipeError, match="no run is given"):
        api.merge([], tmp_path / "out")
    lora = registry.load("methods", "lora")
    monkeypatch.setattr(lora, "cannot_merge", "it is a test")
    with pytest.raises(ModelError, match="A delta of 'lora' can't be merged: it is a test"):
        api.merge([runs["full"], runs["lora"]], tmp_path / "out", as_delta="exact")
    assert not (tmp_path / "out").exists()


def test_a_difference_that_loads_otherwise_is_not_kept(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = artifact.load

    def spoilt(*arguments: Any) -> Any:
        found = whole(*arguments)
        with torch.no_grad():
            found.model.classifier.bias += 1
        return found

    monkeypatch.setattr(difference.artifact, "load", spoilt)
    with pytest.raises(ArtifactError, match=r"gives other weights than the model: classifier.bias \(1 such\)"):
        api.merge([runs["full"]], tmp_path / "out", as_delta="exact")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_backbone_of_lower_precision_is_merged_in_float32(method: str, tmp_path: Path) -> None:
    low = {"name": "builtin:tiny-bert", "dtype": "bfloat16"}
    made.run(tmp_path / "low", model=low, method=method)
    with listening() as notes:
        done = api.merge(tmp_path / "low", tmp_path / "plain")
    assert done["largest_difference"] <= 1e-5
    # A whole model is read into float32 anyway, which changes no value.
    assert {tensor.dtype for tensor in load_file(tmp_path / "plain" / "model.safetensors").values()} == {torch.float32}
    assert [note for note in notes if "in bfloat16: the merged model is in float32" in note] == notes[
        : method == "lora"
    ]
    if method == "lora":
        with pytest.raises(ModelError, match=r"merged model is in float32, its backbone in torch\.bfloat16"):
            api.merge(tmp_path / "low", tmp_path / "small", as_delta="exact")
        assert not (tmp_path / "small").exists()
