"""Words of a domain as tokens: chosen by what they save, no other text changed, rows that start where their pieces
were.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerFast,
    pipeline,
)

import tunesmith
from tests import toy
from tunesmith import prepare
from tunesmith.core.errors import DataError, ModelError, RecipeError, UserError
from tunesmith.core.notes import listening
from tunesmith.evaluate import stats
from tunesmith.models import artifact, builtin, pieces, vocabulary
from tunesmith.models.load import Backbone, load
from tunesmith.models.settings import ModelSettings
from tunesmith.recipe import from_values
from tunesmith.serve import session

CLASS, MASKED, CAUSAL = "AutoModelForSequenceClassification", "AutoModelForMaskedLM", "AutoModelForCausalLM"
# "wardrobe" and "credenza" stand in it often; "Sideboard" twice, in two spellings; "cat" and "category" share letters.
CORPUS = """The wardrobe is oak. A wardrobe-door squeaks, and two wardrobes stand by the wardrobe.
The credenza (a low credenza) is walnut; the credenza's top is marble, and so is that credenza.
A sideboard and a Sideboard. The café sells a cat tree; no category fits it.
"""
OTHERS = [
    "It's a catalogue of categories.",
    "wardrobes, credenzas 12 ö ☕ <s> [MASK]",
    "  two  blanks\tand\nlines ",
    "",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(CORPUS, encoding="utf-8")
    return path


def trained(kind: str) -> Any:
    """A small tokenizer of each kind, made of the corpus without its rare words."""
    lines = ["the is oak a and two stand by low top so that tree no fits it marble sells"] * 3
    alphabet = [*"abcdefghijklmnopqrstuvwxyz", *pre_tokenizers.ByteLevel.alphabet()]
    if kind == "byte-level":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.train_from_iterator(
            lines, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
        )
        told = json.loads(made.to_str())["model"]
        # Its end token is no part of the vocabulary proper: it has the number behind it.
        return GPT2Tokenizer(vocab=told["vocab"], merges=[tuple(pair) for pair in told["merges"]])
    if kind == "marked":
        # As Llama's: blanks become a mark in front of words, without any rule where words end.
        made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        specials = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials[:3], show_progress=False)
        made.train_from_iterator([*lines, *"abcdefghijklmnopqrstuvwxyz"], trainer)
        told = json.loads(made.to_str())
        told["model"]["vocab"] |= {token: len(told["model"]["vocab"]) + n for n, token in enumerate(specials[3:])}
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(told)), unk_token="<unk>", eos_token="</s>"
        )
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(
        lines,
        trainers.UnigramTrainer(
            vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False,
            initial_alphabet=[*"abcdefghijklmnopqrstuvwxyz"],
        ),
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")


def tokenizer_of(kind: str) -> Any:
    if kind == "minilm":
        return AutoTokenizer.from_pretrained(str(builtin.find("minilm")))
    return builtin.tiny_tokenizer() if kind == "tiny" else trained(kind)


KINDS = ["minilm", "tiny", "byte-level", "marked", "unigram"]


def loaded(words: Any, name: str = "builtin:tiny-bert", auto_class: str = CLASS, **settings: Any) -> Backbone:
    head = {"num_labels": 3} if auto_class == CLASS else {}
    return load(ModelSettings(name=name, add_tokens=words, **settings), (auto_class,), head, 0)


def test_words_are_chosen_by_what_they_save(corpus: Path) -> None:
    # MiniLM cuts "credenza" into cr ##ede ##nza (4 times in the file: 8 tokens saved), "squeaks" into three (once: 2),
    # "sideboard" into side ##board (twice, in two spellings: 2); "wardrobe" and "café" it knows.
    tokenizer = tokenizer_of("minilm")
    assert [tokenizer.tokenize(word) for word in ("credenza", "sideboard", "Café")] == [
        ["cr", "##ede", "##nza"], ["side", "##board"], ["cafe"],
    ]  # fmt: skip
    with listening() as notes:
        words = vocabulary.choose({"file": str(corpus), "least": 2}, tokenizer, "minilm")
    assert words == ["credenza", "sideboard"]
    assert len(tokenizer) == 30522, "the choice changes nothing"
    assert vocabulary.choose({"file": str(corpus), "least": 2, "most": 1}, tokenizer, "minilm") == ["credenza"]
    with pytest.raises(RecipeError, match="holds no word to add"):
        vocabulary.choose({"file": str(corpus), "least": 9}, tokenizer, "minilm")
    # 45 words between blanks; 10 tokens fewer with the two.
    before = sum(len(tokenizer.tokenize(line)) for line in CORPUS.splitlines())
    said = f"{before / len(CORPUS.split()):.3f} until now, {(before - 10) / len(CORPUS.split()):.3f} with them"
    assert any("credenza, sideboard" in note and "2 new tokens" in note and said in note for note in notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_is_one_token_and_no_other_text_changes(kind: str, tmp_path: Path) -> None:
    words = ["credenza", "cat", "sideboard"] if kind != "minilm" else ["credenza", "sideboard", "squeaks"]
    plain, grown = tokenizer_of(kind), tokenizer_of(kind)
    new = pieces.join(grown, words, pieces.kind_of(grown, kind))
    assert list(new) == list(range(len(plain), len(grown))), "numbers go on without a gap"
    assert [len(ids) for ids in pieces.cut(grown, words)] == [1, 1, 1]
    assert {plain.convert_ids_to_tokens(number) for ids in new.values() for number in ids} <= set(plain.get_vocab())
    grown.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*OTHERS, *CORPUS.splitlines(), "a category of Credenza, sideboards"]:
        before, after = plain(text)["input_ids"], grown(text)["input_ids"]
        assert grown.decode(after) == plain.decode(before)
        assert len(after) <= len(before)
        assert again(text)["input_ids"] == after
    # Words that only hold an added one are cut as they were, or joined further: never at other places.
    for text in ("category", " the categories", "catalogue"):
        joined = [plain(text)["input_ids"], grown(text)["input_ids"]]
        assert joined[0] == joined[1] or len(joined[1]) < len(joined[0])
        assert pieces.cut(grown, ["cat"])[0][0] not in joined[1] or kind != "minilm"


def test_wordpiece_matches_whole_words_in_every_spelling() -> None:
    tokenizer = tokenizer_of("minilm")
    pieces.join(tokenizer, ["credenza"], pieces.WORD_PIECE)
    told = tokenizer.tokenize("Credenza, CREDENZA-top, crèdenza (credenza) credenzas")
    assert told == ["credenza", ",", "credenza", "-", "top", ",", "credenza", "(", "credenza", ")", *["cr", "##ede"],
                    "##nza", "##s"]  # fmt: skip


def test_merges_come_after_the_old_ones() -> None:
    # Tokens of one byte: " cat" is Ġ c a t; three merges, from the left, give Ġc, Ġca, Ġcat, and " cab" shares two.
    tokenizer = builtin.tiny_tokenizer()
    first = len(tokenizer)
    new = pieces.join(tokenizer, ["cat", "cab"], pieces.PAIRS)
    assert tokenizer.convert_ids_to_tokens(list(new)) == ["Ġc", "Ġca", "Ġcat", "Ġcab"]
    numbers = {letter: tokenizer.convert_tokens_to_ids(letter) for letter in "Ġcatb"}
    assert new[first + 2] == [numbers[letter] for letter in "Ġcat"]
    assert new[first + 3] == [numbers[letter] for letter in "Ġcab"]
    assert tokenizer.tokenize("cat cat cabs") == ["c", "a", "t", "Ġcat", "Ġcab", "s"]


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-gpt2", "tiny-llama", "tiny-t5"])
def test_new_rows_are_the_mean_of_the_pieces(name: str) -> None:
    auto_class = MASKED if name == "tiny-bert" else "AutoModelForSeq2SeqLM" if name == "tiny-t5" else CAUSAL
    plain, grown = loaded(None, f"builtin:{name}", auto_class), loaded(["cat"], f"builtin:{name}", auto_class)
    assert len(grown.tokenizer) == len(plain.tokenizer) + 3 == grown.model.config.vocab_size  # Ġc, Ġca, Ġcat
    old = plain.tokenizer.convert_tokens_to_ids(["Ġ", "c", "a", "t"])
    rows, before = grown.model.get_input_embeddings().weight, plain.model.get_input_embeddings().weight
    assert rows.shape[0] == len(grown.tokenizer), "no row more than needed"
    assert torch.equal(rows[: len(before)], before)
    assert torch.allclose(rows[-1], before[old].mean(dim=0))
    words, output = plain.model.get_output_embeddings(), grown.model.get_output_embeddings()
    assert torch.allclose(output.weight[-1], words.weight[old].mean(dim=0))
    if words.bias is not None:
        assert torch.allclose(output.bias[-1], words.bias[old].mean())
    # A text without the words gives the same scores of the old tokens.
    ids = plain.tokenizer("dog", return_tensors="pt")["input_ids"]
    given = {"input_ids": ids, **({"decoder_input_ids": ids} if name == "tiny-t5" else {})}
    with torch.inference_mode():
        first, second = plain.model.eval()(**given).logits, grown.model.eval()(**given).logits
    assert torch.allclose(first, second[..., : first.shape[-1]], atol=1e-6)


def test_rows_that_are_there_already_are_used(tmp_path: Path) -> None:
    # Some models have more rows than tokens: new words take the first free ones.
    wide = loaded(None).model
    wide.resize_token_embeddings(280, mean_resizing=False)
    wide.save_pretrained(tmp_path)
    tokenizer = builtin.tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    grown = loaded(["cat"], str(tmp_path))
    rows = grown.model.get_input_embeddings().weight
    old = tokenizer.convert_tokens_to_ids(["Ġ", "c", "a", "t"])
    assert rows.shape[0] == 280 and torch.allclose(rows[len(tokenizer) + 2], rows[old].mean(dim=0))


def test_loading_again_gives_the_same_and_leaves_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = loaded(["credenza", "cat"])
    assert torch.equal(torch.rand(3), expected)
    again, plain = loaded(["credenza", "cat"]), loaded(None)
    assert first.identity == again.identity
    assert first.identity.weights != plain.identity.weights and first.identity.tokenizer != plain.identity.tokenizer


def test_a_recipe_lists_what_was_chosen(corpus: Path) -> None:
    values = {
        "model": {"name": "builtin:tiny-bert", "add_tokens": {"file": str(corpus), "most": 4}},
        "task": "classify",
        "data": "rows.csv",
    }
    settled = prepare.settle(from_values(values))
    assert isinstance(settled.model.add_tokens, list) and len(settled.model.add_tokens) == 4
    # "credenza": Ġ and eight letters are nine pieces, four times; "the" stands there five times: 15 saved.
    assert settled.model.add_tokens[0] == "credenza"
    again = prepare.settle(from_values(settled.values()))
    assert again.model == settled.model


@pytest.mark.parametrize("method", ["full", "lora", {"name": "lora", "embeddings": True}, "head_only"])
def test_runs_come_back(method: Any, lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, saved, proven, loaded for predictions; and merged into a plain model that transformers answers with."""
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    with listening() as notes:
        folder = toy.run(
            tmp_path, model={"name": "builtin:tiny-bert", "add_tokens": ["amber", "cedar"]}, method=method,
            train={"epochs": 1},
        )  # fmt: skip
    frozen = method in ("lora", "head_only")
    assert sum("leaves the embeddings as they are" in note for note in notes) == int(frozen)
    ran = tunesmith.load(folder)
    texts = ["amber basil cedar", "an amberjack"]
    assert " amber" in ran.backbone.tokenizer.decode(ran.backbone.tokenizer("an amber")["input_ids"])
    out = tmp_path / "plain"
    ran.merge(out)
    tuned = pipeline("text-classification", str(out), device="cpu")
    for line, plain in zip(ran.predict(texts), tuned(texts), strict=True):
        assert line["prediction"] == plain["label"] and line["confidence"] == pytest.approx(plain["score"], abs=1e-5)
    if method == "lora":
        # The same delta beside another run of the same words, and not on the backbone without them.
        ran.attach("again", folder)
        with pytest.raises(ModelError, match="weights and tokenizer differ"):
            session.load(lora_run).attach("words", folder)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_quantised_backbones_take_words_too(tmp_path: Path) -> None:
    toyed = toy.prepared(
        {"model": {"name": "builtin:tiny-llama", "quantize": "nf4", "add_tokens": ["amber"]}, "method": "lora"}
    )
    folder, recipe = toy.save(toyed, tmp_path / "model"), toyed.recipe
    again = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    texts = [toy.logits(one.model, one.tokenizer) for one in (toyed.backbone, again)]
    assert torch.equal(*texts) and again.tokenizer.tokenize("an amber")[-1] == "Ġamber"


def test_new_rows_train_in_full() -> None:
    toyed = toy.prepared({"model": {"name": "builtin:tiny-bert", "add_tokens": ["amber"]}})
    assert vocabulary.trains(toyed.training.model)
    assert not vocabulary.trains(toy.prepared({"method": "lora"}).training.model)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["the", "and"], "each of the 2 words (the, and) is one token of builtin:minilm already"),
        (["wardrobe", "桌子"], "桌  子 can't be one token"),
    ],
)
def test_words_that_add_nothing(words: list[str], says: str) -> None:
    with pytest.raises(UserError) as raised:
        vocabulary.choose(words, tokenizer_of("minilm"), "builtin:minilm")
    assert says in raised.value.message and raised.value.hint


def test_words_that_the_tokenizer_cuts_by_rule(tmp_path: Path) -> None:
    for words in (["mp3"], ["e-mail"]):
        with pytest.raises(RecipeError, match="can't be one token"):
            vocabulary.choose(words, builtin.tiny_tokenizer(), "builtin:tiny-bert")
        with pytest.raises(RecipeError, match="can't be one token"):
            loaded(words)


def test_listed_words_are_read_as_the_tokenizer_reads_them() -> None:
    with listening() as notes:
        words = vocabulary.choose(["Credenza", "CREDENZA", "the", "sideboard"], tokenizer_of("minilm"), "minilm")
    assert words == ["credenza", "sideboard"]
    assert any("1 of 4 words are read as another one" in note for note in notes)
    assert any("left out (the)" in note for note in notes)
    # cr ##ede ##nza and side ##board: five pieces of two words.
    assert any("each took 2.50 tokens" in note for note in notes)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "empty list"),
        (["a", " "], "a word is blank"),
        (["coffee table"], "'coffee table' holds a blank"),
        (["oak", "oak"], "'oak' stands in it twice"),
        ({"fil": "corpus.txt"}, "Did you mean 'file'?"),
        ({"most": 5}, "names no file"),
        ({"file": "corpus.txt", "least": 0}, "least: 0 is out of range"),
        ({"file": "corpus.txt", "most": "five"}, "most: 'five' is not a whole number"),
        (5, "5 is not a text or 5 is not a list"),
    ],
)
def test_settings_that_make_no_sense(given: Any, says: str) -> None:
    with pytest.raises(RecipeError) as raised:
        from_values({"model": {"add_tokens": given}, "task": "classify", "data": "rows.csv"})
    assert "model.add_tokens" in raised.value.message and says in raised.value.message


def test_files_that_give_no_words(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("a,b\n")
    (tmp_path / "latin.txt").write_bytes("eins\nMöbel\n".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("12 34 ---\n")
    (tmp_path / "broken.txt.gz").write_bytes(b"no gzip")
    says = {
        "words.csv": "ends in '.csv'", "none.txt": "does not exist", "latin.txt": "line 2 is not UTF-8",
        "empty.txt": "holds no words", "broken.txt.gz": "can't be read",
    }  # fmt: skip
    for name, words in says.items():
        with pytest.raises(DataError) as raised:
            vocabulary.choose(str(tmp_path / name), builtin.tiny_tokenizer(), "builtin:tiny-bert")
        assert words in raised.value.message and name in raised.value.message
    with pytest.raises(DataError, match="is a folder"):
        vocabulary.choose(str(tmp_path), builtin.tiny_tokenizer(), "builtin:tiny-bert")


def test_packed_files_are_read(tmp_path: Path, corpus: Path) -> None:
    with gzip.open(tmp_path / "corpus.txt.gz", "wb") as stream:
        stream.write(CORPUS.encode())
    found = [vocabulary.choose(str(path), tokenizer_of("minilm"), "m") for path in (corpus, tmp_path / "corpus.txt.gz")]
    assert found[0] == found[1] == ["credenza"]


def test_images_have_no_words() -> None:
    with pytest.raises(RecipeError, match="reads images, not words"):
        toy_settings = ModelSettings(name="builtin:tiny-vit", add_tokens=["oak"])
        prepare.models.with_words(toy_settings, "images")


def test_tokenizers_of_other_kinds_are_refused() -> None:
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ModelError, match="takes no new words"):
        vocabulary.choose(["oak"], made, "other")


def test_bert_tokenizers_keep_their_class(tmp_path: Path) -> None:
    grown = loaded(["credenza"], "builtin:minilm")
    grown.tokenizer.save_pretrained(tmp_path)
    grown.model.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(again, BertTokenizer) and again.tokenize("a credenza") == ["a", "credenza"]
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.vocab_size == 30523


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "transformers")
