"""Models from nothing: sizes that follow the family, a tokenizer of the training texts, runs that repeat themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, pipeline

import tunesmith
from tests import toy
from tunesmith import api, own_tokenizer, prepare
from tunesmith import run as runs
from tunesmith.core.errors import ModelError, RecipeError, RunFolderError, UserError
from tunesmith.core.notes import listening
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt
from tunesmith.models import artifact, builtin, scratch
from tunesmith.models.load import load
from tunesmith.models.settings import ModelSettings
from tunesmith.recipe import from_values
from tunesmith.serve import session

CLASS = ("AutoModelForSequenceClassification",)
TINY = {"hidden": 32, "blocks": 1, "vocabulary": 320}
TEXTS = [
    "the oak table and the oak chair",
    "a chair, two tables: the tables!",
    "Ünïcode ☕ and\ttabs\n",
    "the table",
] * 3


def config(family: str, **settings: Any) -> Any:
    return scratch.config_of(ModelSettings(family=family, **settings))


def prepared(model: dict[str, Any], **values: Any) -> prepare.Prepared:
    return toy.prepared({"model": model, **values})


def body(toyed: prepare.Prepared) -> dict[str, torch.Tensor]:
    return dict(toyed.training.model.base_model.state_dict())


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        # Feed-forward: four times the hidden size; Llama's 11008 / 4096 times: 516. Heads: 192 / 64 = 3.
        ("bert", {"num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 768}),
        ("gpt2", {"n_layer": 2, "n_head": 3, "n_embd": 192, "n_inner": None}),  # none: GPT-2 takes four times then
        ("llama", {"num_key_value_heads": 3, "intermediate_size": 516, "head_dim": 64}),
        ("t5", {"num_layers": 2, "num_decoder_layers": 2, "num_heads": 3, "d_ff": 768, "d_kv": 64}),
        ("vit", {"num_attention_heads": 3, "intermediate_size": 768, "pooler_output_size": 192}),
        ("bart", {"encoder_layers": 2, "decoder_layers": 2, "decoder_attention_heads": 3, "encoder_ffn_dim": 768}),
        # 8 of Mistral's 32 heads keep keys and values; of 3 that is less than one.
        ("mistral", {"num_key_value_heads": 1, "intermediate_size": 672}),
    ],
)
def test_sizes_follow_the_family(family: str, sizes: dict[str, Any]) -> None:
    found = config(family, hidden=192, blocks=2)
    assert found.model_type == family and found.hidden_size == 192
    assert {name: getattr(found, name) for name in sizes} == sizes


@pytest.mark.parametrize(("hidden", "heads"), [(8, 1), (64, 1), (100, 1), (128, 2), (200, 2), (320, 5), (768, 12)])
def test_heads_divide_the_hidden_size_evenly(hidden: int, heads: int) -> None:
    assert config("llama", hidden=hidden).num_attention_heads == heads
    assert hidden % (2 * heads) == 0


def test_entries_of_the_configuration_are_taken() -> None:
    found = config("gpt2", hidden=64, config={"n_head": 4, "n_positions": 96, "resid_pdrop": 0.0})
    assert (found.n_head, found.n_positions, found.resid_pdrop) == (4, 96, 0.0)
    assert (
        config("bert", config={"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 8}).hidden_size == 24
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"family": "lama"}, "knows no model type 'lama'. Did you mean 'llama'?"),
        (
            {"family": "bert", "config": {"hiden_act": "gelu"}},
            "config.hiden_act: is unknown. Did you mean 'hidden_act'?",
        ),
        ({"family": "bert", "config": {"vocab_size": 9}}, "config.vocab_size: is set by model.vocabulary"),
        ({"family": "bert", "config": {"pad_token_id": 9}}, "config.pad_token_id: is set by"),
        ({"family": "bert", "config": {"num_labels": 9}}, "config.num_labels: is set by the task"),
        ({"family": "gpt2", "hidden": 64, "config": {"n_embd": 9}}, "config.n_embd: is said by hidden already"),
        ({"family": "t5", "blocks": 2, "config": {"num_layers": 9}}, "config.num_layers: is said by blocks already"),
        (
            {"family": "bert", "hidden": 64, "config": {"num_attention_heads": 3}},
            "3 heads (config) can't share hidden 64",
        ),
        ({"family": "bert", "config": {"hidden_act": 3}}, "bert can't be made in these sizes"),
        ({"family": "resnet", "hidden": 64}, "hidden: the configuration of resnet has no one such size"),
    ],
)
def test_configurations_that_can_not_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as raised:
        scratch.config_of(ModelSettings(**settings))
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"name": "builtin:minilm", "family": "bert"}, "name and family are both given"),
        ({"like": "builtin:minilm", "family": "bert", "weights": "random"}, "like and family are both given"),
        ({"like": "builtin:minilm"}, "say weights: random with it"),
        ({"weights": "random"}, "weights goes with like, not with name"),
        ({"family": "bert", "weights": "random"}, "weights goes with like, not with family"),
        ({"like": "builtin:minilm", "weights": "none"}, "'none' is not allowed. Known: random."),
        ({"vocabulary": 4096}, "vocabulary goes with like or family, not with name"),
        ({"like": "builtin:minilm", "weights": "random", "blocks": 2}, "blocks goes with family, not with like"),
        ({"family": "bert", "quantize": "nf4"}, "quantize goes with name, not with family"),
        ({"family": "bert", "add_tokens": ["oak"]}, "add_tokens goes with name, not with family"),
        ({"family": "bert", "hidden": 65}, "hidden 65 is odd"),
        ({"family": "bert", "hidden": 4}, "4 is out of range: must be at least 8"),
        ({"family": "bert", "vocabulary": 100}, "100 is out of range: must be at least 300"),
    ],
)
def test_settings_that_contradict_each_other(model: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as raised:
        from_values({"model": model, "task": "classify", "data": "rows.csv"})
    assert says in raised.value.message


def test_without_a_word_the_model_is_minilm() -> None:
    assert ModelSettings().name == ModelSettings(dtype="bfloat16").name == "builtin:minilm"
    again = ModelSettings(**ModelSettings(family="bert").model_dump())
    assert again == ModelSettings(family="bert") and again.called == "bert from scratch"


@pytest.mark.parametrize(
    ("family", "framed", "paired"),
    [
        ("bert", "[CLS]the table[SEP]", "[CLS]the table[SEP]a chair[SEP]"),
        ("llama", "<s>the table", "<s>the table</s>a chair"),
        ("t5", "the table</s>", "the table</s>a chair</s>"),
    ],
)
def test_the_tokenizer_loses_nothing(family: str, framed: str, paired: str, tmp_path: Path) -> None:
    kind = config(family, **{**TINY, "vocabulary": None})
    with listening() as notes:
        trained = scratch.train_tokenizer(iter(TEXTS), 290, kind)
    assert trained == scratch.train_tokenizer(iter(TEXTS), 290, kind), "the same texts give the same tokenizer"
    made = scratch.reader(trained, kind)
    scratch.fit(kind, made)
    assert kind.vocab_size == len(made) == 290 and "290 tokens" in notes[0] and "fewer" not in notes[0]
    assert made.decode(made("the table")["input_ids"]) == framed
    assert made.decode(made("the table", "a chair")["input_ids"]) == paired
    for text in [*TEXTS, "\x00 never seen: ☃ <tag>", "  "]:
        assert made.decode(made(text, add_special_tokens=False)["input_ids"]) == text
    made.save_pretrained(tmp_path)
    kind.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("the table", "a chair") == made("the table", "a chair")
    if family == "bert":
        assert made("the table", "a chair")["token_type_ids"][-1] == 1


def test_a_vocabulary_is_no_larger_than_the_texts_give() -> None:
    # "ab" stands twice: a+b is the only pair that repeats. 256 bytes, three special tokens and one pair are 260.
    with listening() as notes:
        made = scratch.reader(scratch.train_tokenizer(["ab", "ab"], 400, LlamaConfig()), LlamaConfig())
    assert len(made) == 260 and made.tokenize("ab") == ["ab"]
    assert "260 tokens" in notes[0] and "fewer than the 400 asked for" in notes[0]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_a_family_trains_and_comes_back(family: str, tmp_path: Path) -> None:
    toyed = prepared({"family": family, **TINY}, train={"steps": 3, "learning_rate": 1e-3})
    assert len(toyed.backbone.tokenizer) == toyed.training.model.config.vocab_size == 320
    start = body(prepared({"family": family, **TINY}))
    assert toy.train(toyed, tmp_path / "run")
    folder, recipe = toy.save(toyed, tmp_path / "model"), toyed.recipe
    again = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    assert again.limit == toyed.backbone.limit
    answers = [toy.logits(one.model, one.tokenizer) for one in (toyed.backbone, again)]
    assert torch.equal(*answers)
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(answers[0], toy.logits(plain, AutoTokenizer.from_pretrained(folder)))
    assert any(not torch.equal(tensor, start[name]) for name, tensor in body(toyed).items())


def test_weights_follow_the_seed() -> None:
    first, again, other = (body(prepared({"family": "bert", **TINY}, train={"seed": seed})) for seed in (0, 0, 1))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["encoder.layer.0.output.dense.weight"], other["encoder.layer.0.output.dense.weight"])
    # BERT's start: N(0, 0.02^2).
    assert first["embeddings.word_embeddings.weight"].std().item() == pytest.approx(0.02, rel=0.1)


def test_like_takes_the_architecture_and_the_tokenizer(tmp_path: Path) -> None:
    known = load(ModelSettings(name="builtin:tiny-bert"), CLASS, {"num_labels": 3}, 0)
    tiny = {"like": "builtin:tiny-bert", "weights": "random"}
    found = prepared(tiny)
    assert found.backbone.model.config.hidden_size == 32
    assert found.backbone.identity.tokenizer == known.identity.tokenizer
    assert found.backbone.identity.weights != known.identity.weights
    own = prepared({**tiny, "vocabulary": 310})
    assert len(own.backbone.tokenizer) == own.backbone.model.config.vocab_size == 310
    assert own.backbone.model.config.pad_token_id == own.backbone.tokenizer.pad_token_id == 0
    known.model.save_pretrained(tmp_path)
    known.tokenizer.save_pretrained(tmp_path)
    folder = prepared({"like": str(tmp_path), "weights": "random"})
    assert torch.equal(body(folder)["pooler.dense.weight"], body(found)["pooler.dense.weight"]), (
        "the seed's, not its own"
    )


def test_like_the_real_one() -> None:
    found = load(ModelSettings(like="builtin:minilm", weights="random"), CLASS, {"num_labels": 3}, 0)
    assert found.model.config.num_hidden_layers == 6 and found.tokenizer.tokenize("chair") == ["chair"]
    real = load(ModelSettings(), CLASS, {"num_labels": 3}, 0)
    assert not torch.equal(found.model.bert.pooler.dense.weight, real.model.bert.pooler.dense.weight)


def test_a_run_from_scratch_repeats_answers_and_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, moved, loaded, repeated from its recipe: always with the tokenizer of its folder."""
    model = {"family": "bert", **TINY}
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    folder = toy.run(tmp_path, model=model)
    kept = (folder / "tokenizer.json").read_text(encoding="utf-8")
    assert json.loads(kept)["model"]["type"] == "BPE"
    proof = json.loads((folder / "proof.json").read_text())
    assert proof["largest_difference"] <= 1e-5
    moved = folder.rename(tmp_path / "moved")
    texts = ["yes amber", "no delta cedar"]
    lines = tunesmith.load(moved).predict(texts)
    tuned = pipeline("text-classification", str(moved / "model"), device="cpu")(texts)
    for line, plain in zip(lines, tuned, strict=True):
        assert line["prediction"] == plain["label"] and line["confidence"] == pytest.approx(plain["score"], abs=1e-5)
    # Its recipe repeats the run, tokenizer and all.
    again = api.train(moved / "recipe.yaml", out=tmp_path / "again").folder
    assert (again / "tokenizer.json").read_text(encoding="utf-8") == kept
    assert session.load(again).predict(texts) == lines
    with pytest.raises(ModelError, match="random weights"):
        api.merge([moved], tmp_path / "delta", as_delta="exact")
    (moved / "tokenizer.json").unlink()
    with pytest.raises(RunFolderError, match=r"tokenizer\.json is missing"):
        session.load(moved)


def test_resumed_it_ends_where_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    values = {
        "model": {"family": "gpt2", **TINY},
        "task": "classify",
        "data": {"train": str(toy.write_csv(tmp_path / "rows.csv")), "validation": 0.2, "test": 0.2},
        "train": {"steps": 4, "checkpoint_every": 1, "device": "cpu", "precision": "float32"},
    }
    whole = runs.start(from_values(values), tmp_path / "whole").folder
    asked = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "asked", lambda self: next(asked))
        assert not runs.start(from_values(values), tmp_path / "halted").finished
    halted = runs.resume(tmp_path / "halted").folder
    for name in ("model/model.safetensors", "model/tokenizer.json", "tokenizer.json", "predictions/test.jsonl"):
        assert (whole / name).read_bytes() == (halted / name).read_bytes()


def test_the_tokenizer_learns_from_what_the_model_reads_and_writes() -> None:
    # Names of classes are nothing to read: "zzz" is no token, though it stands in every row.
    rows = Dataset.from_list([{"line": n, "text": f"oaken {n}", "label": "zzz" if n % 2 else "y"} for n in range(8)])
    toyed = toy.prepared({"model": {"family": "bert", **TINY}}, rows=rows)
    assert toyed.backbone.tokenizer.tokenize("oaken zzz") == ["oaken", "Ġ", "z", "z", "z"]


def test_a_large_split_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_tokenizer, "LEARNED_FROM", 100)
    with listening() as notes:
        prepared({"family": "bert", **TINY}, train={"batch_size": 4})
    assert any("is trained on one of every " in note for note in notes)


def test_settling_fills_in_the_vocabulary_and_the_rate() -> None:
    values = {"task": "classify", "data": "rows.csv", "train": {"device": "cpu"}}
    settled = prepare.settle(from_values({**values, "model": {"family": "bert"}}))
    assert settled.model.vocabulary == 4096 and settled.train.learning_rate == 5e-4
    known = prepare.settle(from_values({**values, "model": "builtin:tiny-bert"}))
    assert known.model.vocabulary is None and known.train.learning_rate == 5e-5


@pytest.mark.parametrize("method", ["lora", "head_only", "bitfit"])
def test_methods_that_ship_a_delta_are_refused(method: str) -> None:
    with pytest.raises(RecipeError, match="has random weights, which nobody else has") as raised:
        prepared({"family": "bert", **TINY}, method=method)
    assert "full" in raised.value.hint


def test_families_without_the_tasks_head_are_refused() -> None:
    with pytest.raises(UserError, match="vit from scratch is a vit model, for which transformers has no"):
        prepared({"family": "vit", "hidden": 32, "blocks": 1})


def test_a_damaged_tokenizer_is_told() -> None:
    with pytest.raises(ModelError, match="trained tokenizer of the run is damaged"):
        scratch.reader('{"model": {}}', builtin.tiny_configs()["tiny-bert"])


def test_images_need_no_tokenizer() -> None:
    settings = ModelSettings(
        family="vit", hidden=32, blocks=1, config={"image_size": 16, "patch_size": 8, "num_channels": 1}
    )
    found = load(settings, ("AutoModelForImageClassification",), {"num_labels": 3}, 0, "images")
    assert found.model.config.hidden_size == 32 and found.tokenizer.size["height"] == 16
