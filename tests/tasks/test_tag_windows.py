"""Pieces of words in every kind of tokenizer, windows, and which piece of which window speaks for a word."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks.tag_windows import NO_WORD, Pieces, best_window, parts, pieces, speakers, unread, windows
from tunesmith.tasks.tag_words import words, written

SENTENCE = ["The", "oak", "desk", "isn't", "old", ",", "caf\u00e9"]
TRAINED = ["The oak desk , the old oak desk isn't old", "the caf\u00e9 , the desk"]


def byte_level() -> PreTrainedTokenizerBase:
    """As GPT-2's: blanks belong to the word behind them, and there are no special tokens around a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, special_tokens=["<pad>"])  # type: ignore[call-arg]
    tokenizer.train_from_iterator(TRAINED, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def sentence_piece() -> PreTrainedTokenizerBase:
    """As Llama's or T5's: every word begins with a mark, the first too."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=50, special_tokens=["<unk>", "</s>"])  # type: ignore[call-arg]
    tokenizer.train_from_iterator(TRAINED, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="</s>", unk_token="<unk>")


def word_piece() -> PreTrainedTokenizerBase:
    """As BERT's: lower case, no control characters, punctuation apart."""
    letters = [chr(number) for number in range(97, 123)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "oak", "desk", ",", "'", *letters, *(f"##{one}" for one in letters)]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


KINDS = [tiny_tokenizer, byte_level, sentence_piece, word_piece]


def cut(tokenizer: PreTrainedTokenizerBase, row: list[str]) -> Pieces:
    (found,) = pieces([written(row)], tokenizer)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_every_word_has_its_pieces_in_order(kind: Any, whole: bool) -> None:
    tokenizer = kind()
    found = cut(tokenizer, words(" ".join(SENTENCE)) if whole else words(SENTENCE))
    spoken = [word for word in found.words if word != NO_WORD]
    assert spoken == sorted(spoken) and set(spoken) == set(range(len(SENTENCE)))
    # The model sees what it would see of the plain text.
    ids = found.before["input_ids"] + found.fields["input_ids"] + found.after["input_ids"]
    assert ids == tokenizer(" ".join(SENTENCE))["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_of_a_word_spell_it(kind: Any) -> None:
    tokenizer = kind()
    found = cut(tokenizer, SENTENCE)
    for number, word in enumerate(SENTENCE[:6]):
        ids = [one for one, owner in zip(found.fields["input_ids"], found.words, strict=True) if owner == number]
        spelled = "".join(tokenizer.convert_ids_to_tokens(ids)).replace("##", "").strip("\u0120\u2581").lower()
        assert spelled == word.lower() or "[unk]" in spelled


def test_a_byte_level_tokenizer_sees_the_blanks() -> None:
    tokenizer = byte_level()
    found = cut(tokenizer, ["The", "oak", "desk"])
    pairs = list(zip(tokenizer.convert_ids_to_tokens(found.fields["input_ids"]), found.words, strict=True))
    assert ("\u0120oak", 1) in pairs and ("\u0120desk", 2) in pairs
    assert found.specials == 0


def test_blanks_of_their_own_belong_to_no_word() -> None:
    # One token a byte: "a", "\u0120", "b", "c".
    assert cut(tiny_tokenizer(), ["a", "bc"]).words == [0, NO_WORD, 1, 1]
    assert cut(tiny_tokenizer(), ["\u00e9", "b"]).words == [0, 0, NO_WORD, 1]  # two bytes of one letter


def test_words_without_pieces() -> None:
    row = ["oak", "\u200b", "desk", "\u00a0"]
    found = cut(word_piece(), row)
    assert found.words == [0, 2]
    one = {"parts": parts(found, "first", 10, 2, 0), "starts": [0] * 4}
    assert unread([one]) == [[1, 3]]
    (nothing,) = parts(cut(word_piece(), ["\u200b"]), "first", 10, 2, 0)
    assert nothing == {"input_ids": [2, 3], "carriers": [NO_WORD, NO_WORD]}
    # Not even special tokens: padding stands in, so that there is something to give the model.
    empty = Pieces({"input_ids": []}, {"input_ids": []}, {"input_ids": []}, [])
    assert parts(empty, "first", 10, 2, 7) == [{"input_ids": [7], "carriers": [NO_WORD]}]


@pytest.mark.parametrize(
    ("count", "width", "overlap", "expected"),
    [
        (5, 5, 2, [(0, 5)]),
        (0, 5, 2, [(0, 0)]),
        (6, 5, 2, [(0, 5), (1, 6)]),
        (8, 5, 2, [(0, 5), (3, 8)]),
        (10, 5, 2, [(0, 5), (3, 8), (5, 10)]),
        (10, 5, 0, [(0, 5), (5, 10)]),
    ],
)
def test_windows_cover_the_text(count: int, width: int, overlap: int, expected: list[tuple[int, int]]) -> None:
    assert windows(count, width, overlap) == expected


@pytest.mark.parametrize("count", [1, 6, 7, 19, 40])
@pytest.mark.parametrize(("width", "overlap"), [(6, 0), (6, 1), (6, 5), (1, 0)])
def test_windows_leave_nothing_out(count: int, width: int, overlap: int) -> None:
    found = windows(count, width, overlap)
    assert {place for start, end in found for place in range(start, end)} == set(range(count))
    assert len(set(found)) == len(found)
    assert all(end - start <= width for start, end in found)
    assert all(one[1] - other[0] >= overlap for one, other in pairwise(found))


def test_a_word_is_answered_where_it_stands_farthest_from_a_cut() -> None:
    # Windows 0 to 9 and 6 to 15 of 16 pieces. Piece 7 is 2 from the first one's cut end and 1 from the second's start;
    # piece 8 is 1 and 2; piece 0 is at an edge that cuts nothing.
    spaces = [(0, 10), (6, 16)]
    assert [best_window(place, spaces, 16) for place in (0, 6, 7, 8, 9, 15)] == [0, 0, 0, 1, 1, 1]


def test_first_and_last_piece() -> None:
    assert speakers([0, 0, NO_WORD, 1, 1, 1, 3], "first") == {0: 0, 1: 3, 3: 6}
    assert speakers([0, 0, NO_WORD, 1, 1, 1, 3], "last") == {0: 1, 1: 5, 3: 6}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", ["first", "last"])
@pytest.mark.parametrize(("width", "overlap"), [(6, 2), (9, 0), (100, 25)])
def test_every_word_is_spoken_for_exactly_once(kind: Any, piece: Any, width: int, overlap: int) -> None:
    tokenizer = kind()
    found = parts(cut(tokenizer, SENTENCE * 3), piece, width, overlap, 0)
    spoken = sorted(word for part in found for word in part["carriers"] if word != NO_WORD)
    assert spoken == list(range(3 * len(SENTENCE)))
    whole = cut(tokenizer, SENTENCE * 3)
    for part in found:
        assert len(part["carriers"]) == len(part["input_ids"]) <= width + whole.specials
        head = len(whole.before["input_ids"])
        assert part["input_ids"][:head] == whole.before["input_ids"]
        assert part["input_ids"][len(part["input_ids"]) - len(whole.after["input_ids"]) :] == whole.after["input_ids"]
