"""Models that can't be trained, and trainings that go astray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification
from transformers import logging as transformers_logging

from tests.bad_input.case import ROWS, Desk
from tunesmith.models import builtin

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model folder `model`."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    transformers_logging.disable_progress_bar()
    AutoModelForSequenceClassification.from_config(builtin.tiny_configs()["tiny-bert"]).save_pretrained(folder)
    builtin.tiny_tokenizer().save_pretrained(folder)
    return folder.parent


@pytest.fixture
def model(desk: Desk, saved: Path) -> Path:
    desk.write("rows.csv", ROWS)
    desk.take(saved)
    return desk.folder / "model"


def refused(desk: Desk, says: str | list[str], hint: str = "", model: str = "model") -> str:
    return desk.refused(
        "train", "rows.csv", "--model", model, "--set", "train.steps=2", "--out", "run", says=says, hint=hint
    )


def change(path: Path, **values: object) -> None:
    """Change a JSON file; a key whose new value is None is taken out."""
    read = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in read.items() if value is not None}))


def test_folder_without_weights(desk: Desk, model: Path) -> None:
    (model / WEIGHTS).unlink()
    refused(desk, "The model folder model has no weights: no *.safetensors file.", "save_pretrained(folder)")


def test_pickled_weights_are_never_read(desk: Desk, model: Path) -> None:
    (model / WEIGHTS).rename(model / "pytorch_model.bin")
    refused(desk, ["model has no weights", "It has pytorch_model.bin, which is a pickle and is never read."])


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 8 + b[8:], lambda b: b"PK" + b[2:]]
)
def test_damaged_weights(desk: Desk, model: Path, damage: object) -> None:
    path = model / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    refused(desk, f"The weights model/{WEIGHTS} are damaged: ", "Copy or download the file again.")


def test_weights_that_are_no_numbers(desk: Desk, model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    name = next(name for name in tensors if "encoder.layer.1" in name)
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, model / WEIGHTS, {"format": "pt"})
    says = f"The weights of model are damaged: 1 tensors hold values that are not finite numbers, {name} for one."
    refused(desk, says, "Copy or download the file again.")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"intermediate_size": 128}, "has shape (64,), the configuration asks for (128,) (6 such tensors)"),
        ({"vocab_size": 100}, "has shape (259, 32), the configuration asks for (100, 32)"),
        ({"num_hidden_layers": 3}, "16 tensors of its blocks are missing, bert.encoder.layer.2"),
        ({"num_hidden_layers": 1}, "they hold 2 blocks (bert.encoder.layer), the configuration asks for 1"),
        ({"model_type": "gpt2"}, "24 tensors of its blocks are missing"),
    ],
)
def test_weights_that_do_not_match_the_configuration(
    desk: Desk, model: Path, values: dict[str, object], says: str
) -> None:
    change(model / "config.json", **values)
    refused(desk, ["The weights of model don't match its configuration: ", says], "belong to the same model")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "nosuch"}, "model type `nosuch`"),
        ({"num_attention_heads": 5}, "The hidden size (32) is not a multiple of the number of attention heads (5)."),
        ({"hidden_act": "foo"}, "unknown value 'foo'."),
    ],
)
def test_configuration_that_makes_no_sense(desk: Desk, model: Path, values: dict[str, object], says: str) -> None:
    change(model / "config.json", **values)
    refused(desk, ["The model in model can't be loaded: ", says], "Check its config.json")


def test_damaged_configuration(desk: Desk, model: Path) -> None:
    (model / "config.json").write_text("{")
    refused(desk, "model/config.json is damaged: Expecting property name enclosed in double quotes: line 1 column 2")


def test_folder_that_is_no_model(desk: Desk, model: Path) -> None:
    (model / "config.json").unlink()
    refused(desk, ["The folder model is no model: it has no config.json. It holds: ", WEIGHTS], "save_pretrained")


def test_missing_shard(desk: Desk, model: Path) -> None:
    names = list(load_file(model / WEIGHTS))
    (model / WEIGHTS).rename(model / "model-00001-of-00002.safetensors")
    parts = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    refused(desk, ["The model in model can't be loaded", "model-00002-of-00002.safetensors"], "download the folder")


def test_missing_tokenizer(desk: Desk, model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()
    refused(desk, "The model folder model has no tokenizer: none of tokenizer.json,", "tokenizer.save_pretrained")


def test_damaged_tokenizer(desk: Desk, model: Path) -> None:
    (model / "tokenizer.json").write_text("{")
    refused(desk, "The tokenizer of model can't be loaded: model/tokenizer.json is damaged: ", "save_pretrained")


def test_end_of_text_stands_in_for_a_padding_token(desk: Desk, model: Path) -> None:
    change(model / "tokenizer_config.json", pad_token=None)
    ended = desk.run("train", "rows.csv", "--model", "model", "--set", "train.steps=2", "--out", "run")
    assert ended.status == 0, ended.said
    assert "The tokenizer of model has no padding token: '</s>' is used." in ended.said
    desk.whole()


def test_no_token_to_pad_with(desk: Desk, model: Path) -> None:
    special = ["pad_token", "eos_token", "unk_token", "bos_token", "cls_token", "sep_token"]
    change(model / "tokenizer_config.json", **dict.fromkeys(special))
    says = "The tokenizer of model has no token to pad with, and no end-of-text token to stand in for it."
    refused(desk, says, "tokenizer.pad_token = ")


@pytest.mark.parametrize(
    ("name", "says", "hint"),
    [
        (
            "no-such-org/no-such-model",
            "is neither a folder here nor can it be fetched from the hub. The hub",
            "go online",
        ),
        ("./nowhere", "The model folder ./nowhere does not exist.", "builtin:minilm"),
        ("rows.csv", "The model rows.csv is a file.", "Give the folder"),
        ("builtin:tiny-brt", "No built-in model is called 'tiny-brt'. Did you mean 'tiny-bert'? Known: minilm,", ""),
        ("builtin:", "No built-in model is called ''. Known: minilm,", ""),
        ("", "command line: model.name: '': string should have at least 1 character", ""),
    ],
)
def test_names_that_lead_to_no_model(desk: Desk, model: Path, name: str, says: str, hint: str) -> None:
    refused(desk, says, hint, model=name)


def test_learning_rate_that_diverges(desk: Desk) -> None:
    desk.write("rows.csv", ROWS)
    more = ["--model", "builtin:tiny-bert", "--set", "train.learning_rate=1e30", "--set", "train.steps=9"]
    ended = desk.run("train", "rows.csv", *more, "--out", "run")
    assert ended.status == 2, ended.said
    says = [
        " is not a finite number at step ", "(loss: supervised", "The batch's rows: line ", ", line ",
        "Likely: ", "the learning rate 8.75e+29 is too high",
    ]  # fmt: skip
    desk.checked(ended, says, "lower train.learning_rate")
    assert not (desk.folder / "run/model").exists()
    desk.tidy()


def test_last_update_that_diverges_saves_no_model(desk: Desk) -> None:
    desk.write("rows.csv", ROWS)
    more = ["--model", "builtin:tiny-bert", "--set", "train.learning_rate=1e38", "--set", "train.steps=2"]
    ended = desk.run("train", "rows.csv", *more, "--out", "run")
    assert ended.status == 2, ended.said
    desk.checked(ended, "The trained model's outputs are not finite numbers", "lower train.learning_rate")
    assert not (desk.folder / "run/model").exists()
    desk.tidy()
