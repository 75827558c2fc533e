"""Loading: the body is the file's, the head is fresh and follows the seed, the two sides fit each other."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertModel, PreTrainedTokenizerFast

from tests import toy
from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError
from tunesmith.core.notes import listening
from tunesmith.models.builtin import find, tiny_configs, tiny_tokenizer
from tunesmith.models.load import Backbone, load, load_whole
from tunesmith.models.settings import ModelSettings

CLASS = ("AutoModelForSequenceClassification",)


def loaded(name: str, labels: int = 3, seed: int = 0, dtype: Any = "float32") -> Backbone:
    return load(ModelSettings(name=name, dtype=dtype), CLASS, {"num_labels": labels}, seed)


def folder_of(name: str, path: Path, labels: int = 3, **tokenizer: Any) -> Path:
    """A tiny model and its tokenizer, saved as anyone would."""
    model = loaded(f"builtin:{name}", labels).model
    model.save_pretrained(path)
    made = tiny_tokenizer()
    for key, value in tokenizer.items():
        setattr(made, key, value)
    made.save_pretrained(path)
    return path


def split(backbone: Backbone) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights of the body, and of the head."""
    state = backbone.model.state_dict()
    heads = ("classifier", "score", "classification_head")
    return (
        {name: tensor for name, tensor in state.items() if not name.startswith(heads)},
        {name: tensor for name, tensor in state.items() if name.startswith(heads)},
    )


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", [*toy.BACKBONES, "builtin:minilm"])
def test_the_head_follows_the_seed_and_the_body_does_not(name: str) -> None:
    first, again, other = (split(loaded(name, seed=seed)) for seed in (0, 0, 1))
    assert same(first[0], again[0]) and same(first[1], again[1])
    assert same(first[0], other[0]) and not same(first[1], other[1])


@pytest.mark.parametrize("name", ["builtin:tiny-bert", "builtin:minilm"])
def test_the_head_starts_as_transformers_starts_it(name: str) -> None:
    # N(0, 0.02^2) and a bias of zero: `initializer_range` of BERT.
    _, head = split(loaded(name, labels=100))
    assert head["classifier.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert not head["classifier.bias"].any()


def test_loading_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    loaded("builtin:tiny-bert", seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_the_body_of_minilm_is_the_files() -> None:
    file = load_file(Path(str(find("minilm"))) / "model.safetensors")
    body, _ = split(loaded("builtin:minilm"))
    for name, tensor in file.items():
        if "position_ids" not in name:
            assert torch.equal(body[f"bert.{name}"], tensor), name


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-gpt2", "tiny-llama", "tiny-t5"])
def test_a_folder_gives_what_was_saved(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / "model")
    found = loaded(str(folder), seed=5)
    expected = AutoModelForSequenceClassification.from_pretrained(folder)
    texts = toy.logits(found.model, found.tokenizer)
    assert torch.equal(texts, toy.logits(expected, tiny_tokenizer()))
    whole = load_whole(folder, CLASS)
    assert torch.equal(texts, toy.logits(whole, tiny_tokenizer()))


def test_a_head_of_another_size_is_made_fresh(tmp_path: Path) -> None:
    folder = folder_of("tiny-bert", tmp_path / "model", labels=2)
    body, head = split(loaded(str(folder), labels=5))
    assert head["classifier.weight"].shape == (5, 32)
    assert same(body, split(loaded("builtin:tiny-bert"))[0])


def test_a_missing_head_is_made_fresh_and_a_missing_pooler_said(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    body = loaded("builtin:tiny-bert").model.base_model
    bare = BertModel(body.config, add_pooling_layer=False)
    bare.load_state_dict({name: tensor for name, tensor in body.state_dict().items() if "pooler" not in name})
    bare.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    with listening() as notes:
        first, again = (split(loaded(str(folder), seed=4)) for _ in range(2))
    assert same(first[0], again[0]) and same(first[1], again[1])
    assert any("bert.pooler.dense.weight" in note and "started fresh" in note for note in notes)


def test_a_language_models_head_that_a_file_lacks_is_said_once_and_kept_in_its_copies(tmp_path: Path) -> None:
    BertModel(tiny_configs()["tiny-bert"], add_pooling_layer=False).save_pretrained(tmp_path / "body")
    tiny_tokenizer().save_pretrained(tmp_path / "body")
    settings, classes = ModelSettings(name=str(tmp_path / "body")), ("AutoModelForMaskedLM",)
    with listening() as notes:
        model = load(settings, classes, {}, 0).model
    assert [note for note in notes if "cls.predictions.transform: started fresh. This is part of the head" in note]
    assert list(anatomy.head(model)) == list(anatomy.head(copy.deepcopy(model))) == ["cls.predictions.transform"]
    model.save_pretrained(tmp_path / "whole")
    assert list(anatomy.head(load_whole(tmp_path / "whole", classes))) == ["cls.predictions.transform"]
    # As a backbone the saved model brings all that it needs.
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    assert anatomy.head(load(ModelSettings(name=str(tmp_path / "whole")), classes, {}, 0).model) == {}


def test_weights_are_float32_unless_told_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    loaded("builtin:tiny-bert").model.bfloat16().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in loaded(str(folder)).model.parameters()} == {torch.float32}
    assert {p.dtype for p in loaded(str(folder), dtype="bfloat16").model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(("positions", "tokens", "limit"), [(128, 64, 64), (128, 10**30, 128)])
def test_the_limit_is_the_smaller_one(positions: int, tokens: int, limit: int, tmp_path: Path) -> None:
    folder = folder_of("tiny-bert", tmp_path / "model", model_max_length=tokens)
    assert loaded(str(folder)).limit == limit


def test_a_model_without_an_end_has_the_usual_limit(tmp_path: Path) -> None:
    folder = folder_of("tiny-t5", tmp_path / "model", model_max_length=10**30)
    assert loaded(str(folder)).limit == 512
    assert loaded("builtin:minilm").limit <= 512


def test_a_decoders_padding_is_on_the_right_and_known(tmp_path: Path) -> None:
    folder = folder_of("tiny-gpt2", tmp_path / "model", pad_token=None, padding_side="left")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    with listening() as notes:
        found = loaded(str(folder))
    assert any("has no padding token: '</s>' is used" in note for note in notes)
    assert found.tokenizer.padding_side == "right"
    assert found.model.config.pad_token_id == found.tokenizer.pad_token_id == 2
    texts = ("amber", "amber basil cedar delta")
    together = toy.logits(found.model, found.tokenizer, texts)
    alone = torch.cat([toy.logits(found.model, found.tokenizer, [text]) for text in texts])
    assert (together - alone).abs().max() <= 1e-5


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of("tiny-bert", tmp_path / "model")
    big = tiny_tokenizer()
    big.add_tokens([f"word{number}" for number in range(9)])
    big.save_pretrained(folder)
    with pytest.raises(ModelError, match="has 268 tokens, its model only 259"):
        loaded(str(folder))


def test_without_any_token_to_pad_with_it_is_refused(tmp_path: Path) -> None:
    folder = folder_of("tiny-bert", tmp_path / "model")
    bare = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    bare.save_pretrained(folder)
    with pytest.raises(ModelError, match="no token to pad with"):
        loaded(str(folder))


def test_a_whole_model_must_have_its_head(tmp_path: Path) -> None:
    folder = folder_of("tiny-bert", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"incomplete: classifier\.weight missing"):
        load_whole(folder, CLASS)
