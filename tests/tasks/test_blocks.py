"""Blocks: no token is lost or repeated, and perplexities are what they are by hand."""

from __future__ import annotations

import math
import random
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.core.errors import DataError, ModelError
from tunesmith.core.notes import listening
from tunesmith.core.rows import each
from tunesmith.core.tokens import specials
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import blocks

LETTERS = "aábcdé ü 世界🚀\n\t.,'-"


@cache
def wordpiece() -> PreTrainedTokenizerBase:
    """BERT's kind, with pieces of words: `[CLS] text [SEP]`."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde.,'-", *(f"##{letter}" for letter in "abcde"), "ab"]
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@cache
def byte_level() -> PreTrainedTokenizerBase:
    return tiny_tokenizer()


@cache
def decoders() -> PreTrainedTokenizerBase:
    """GPT-2's kind, which puts nothing round a text."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    return tokenizer


KINDS = [byte_level, wordpiece, decoders]


def texts(draw: random.Random, count: int = 12) -> list[str]:
    return ["".join(draw.choice(LETTERS) for _ in range(draw.randint(1, 60))) + "a" for _ in range(count)]


def rows_of(*every: str) -> Dataset:
    return Dataset.from_list([{"text": text, "line": number + 1} for number, text in enumerate(every)])


def bare(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def pieces_of(text: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
    return blocks.parts([{"text": text}], tokenizer, limit)[0]


def inner(piece: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    before, behind = specials(tokenizer)
    ids = list(piece["input_ids"])
    assert ids[: len(before)] == before and ids[len(ids) - len(behind) :] == behind
    assert len(piece["starts"]) == len(ids)
    assert not any(piece["starts"][: len(before)]) and not any(piece["starts"][len(ids) - len(behind) :])
    return ids[len(before) : len(ids) - len(behind)]


def test_what_tokenizers_put_around_a_text() -> None:
    assert specials(byte_level()) == ([1], [2])
    assert specials(wordpiece()) == ([2], [3])
    assert specials(decoders()) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_pieces_put_together_are_the_tokens_of_the_whole_text(kind: Any, seed: int) -> None:
    draw, tokenizer = random.Random(seed), kind()
    limit = draw.randint(3, 40)
    for text in texts(draw):
        pieces = pieces_of(text, tokenizer, limit)
        assert list(chain.from_iterable(inner(piece, tokenizer) for piece in pieces)) == bare(text, tokenizer)
        assert all(len(piece["input_ids"]) <= limit for piece in pieces)
        assert all(len(piece["input_ids"]) == limit for piece in pieces[:-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(10))
def test_blocks_put_together_are_the_tokens_of_all_texts(kind: Any, seed: int) -> None:
    draw, tokenizer = random.Random(seed), kind()
    limit, every = draw.randint(3, 60), texts(draw)
    found = list(each(blocks.blocks(rows_of(*every), tokenizer, limit)))
    for number, text in enumerate(every):
        own = [inner(one, tokenizer) for one in found if one["line"] == number + 1]
        assert list(chain.from_iterable(own)) == bare(text, tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(10))
def test_joined_blocks_are_one_running_text_and_full(kind: Any, seed: int) -> None:
    draw, tokenizer = random.Random(seed), kind()
    limit, every = draw.randint(3, 60), texts(draw)
    found = list(each(blocks.blocks(rows_of(*every), tokenizer, limit, join=True)))
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    running = list(
        chain.from_iterable([*([end] if number else []), *bare(text, tokenizer)] for number, text in enumerate(every))
    )
    assert list(chain.from_iterable(inner(one, tokenizer) for one in found)) == running
    assert all(len(one["input_ids"]) == limit for one in found[:-1])
    # Every block is called by the line of the text that its first token belongs to.
    owners = list(
        chain.from_iterable(
            [number + 1] * (len(bare(text, tokenizer)) + (number > 0)) for number, text in enumerate(every)
        )
    )
    size = blocks.room(tokenizer, limit)
    assert [one["line"] for one in found] == [owners[at] for at in range(0, len(running), size)]


def test_a_joined_text_by_hand() -> None:
    # Blocks of 5 hold 3 letters: abc d|e f, where | is the separator </s> (2).
    found = list(each(blocks.blocks(rows_of("abcd", "ef"), byte_level(), 5, join=True)))
    letters = [bare(letter, byte_level())[0] for letter in "abcdef"]
    a, b, c, d, e, f = letters
    assert [one["input_ids"] for one in found] == [[1, a, b, c, 2], [1, d, 2, e, 2], [1, f, 2]]
    assert [one["line"] for one in found] == [1, 1, 2]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        # | before every token that begins a word.
        (byte_level, "ab  cd.", "|a b |_ _ c d |."),
        (byte_level, "é a", "|Ã © |_ a"),
        (wordpiece, "abc 'de", "|ab ##c |' |d ##e"),
        (wordpiece, "世 a", "|[UNK] |a"),
    ],
)
def test_tokens_that_begin_a_word(kind: Any, text: str, expected: str) -> None:
    (piece,) = pieces_of(text, kind(), 40)
    tokens = kind().convert_ids_to_tokens(inner(piece, kind()))
    starts = piece["starts"][1:-1]
    told = " ".join(f"{'|' if start else ''}{token}" for token, start in zip(tokens, starts, strict=True))
    assert told.replace("Ġ", "_") == expected


def test_words_are_found_by_white_space_where_the_tokenizer_tells_none() -> None:
    # Some tokenizers of pieces of sentences call a whole text one word.
    places = [(0, 2), (2, 3), (3, 5), (6, 8), (8, 9), (9, 10)]
    found = blocks.word_starts("ab, d ef\n.", [0] * 6, places)
    assert found == [True, False, True, True, True, False]
    # A token that is nothing but white space belongs to the word that follows it.
    assert blocks.word_starts("a  b", [0, 1, 2], [(0, 1), (1, 2), (2, 4)]) == [True, True, False]


class Slow:
    """A tokenizer that tells ids alone."""

    is_fast = False

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[7, 8, 9] for _ in texts]}


def test_a_tokenizer_that_tells_no_places_has_a_word_a_token() -> None:
    tokenizer: Any = Slow()
    assert next(blocks.encode([{"text": "x y"}], tokenizer)) == blocks.Encoded([7, 8, 9], [True] * 3)


def test_rows_without_a_token_are_counted() -> None:
    blank = "\u200b\u200b"  # the normaliser of BERT takes it out
    with listening() as said:
        found = blocks.blocks(rows_of("ab", blank, "c"), wordpiece(), 8)
    assert [one["line"] for one in each(found)] == [1, 3]
    assert "1 of 3 rows of the training split hold no token and are left out (the first is line 2)." in said
    with pytest.raises(
        DataError, match=r"none of the 2 rows of the training split holds a token \(the first is line 1\)"
    ):
        blocks.blocks(rows_of(blank, blank), wordpiece(), 8)
    (piece,) = pieces_of(blank, wordpiece(), 8)
    assert piece["input_ids"] == [2, 3]


def test_a_limit_without_room_is_refused() -> None:
    assert blocks.room(byte_level(), 3) == 1
    with pytest.raises(ModelError, match=r"A block of 2 tokens has no room for text: .* take 2"):
        pieces_of("ab", byte_level(), 2)


def test_perplexities_by_hand() -> None:
    # "oak elm" is 2 words of 7 bytes, "fir" 1 of 3; 8 nats over 4 tokens, 4 over 2.
    sums = np.array([[8.0, 4.0, *blocks.size_of("oak elm")], [4.0, 2.0, *blocks.size_of("fir")]])
    found = blocks.perplexities(sums)
    assert found["perplexity"] == pytest.approx(math.exp(12 / 6))
    assert found["word_perplexity"] == pytest.approx(math.exp(12 / 3))
    assert found["byte_perplexity"] == pytest.approx(math.exp(12 / 10))
    assert found["bits_per_byte"] == pytest.approx(12 / 10 / math.log(2))
    assert 2 ** found["bits_per_byte"] == pytest.approx(found["byte_perplexity"])
    best = blocks.perplexities(np.array([[0.0, 1.0, 1.0, 1.0]]))
    assert best == {"perplexity": 1.0, "word_perplexity": 1.0, "bits_per_byte": 0.0, "byte_perplexity": 1.0}


def test_perplexities_of_nothing_and_of_too_much() -> None:
    assert all(math.isnan(value) for value in blocks.perplexities(np.zeros((0, 4))).values())
    found = blocks.perplexities(np.array([[1e6, 1e5, 1.0, 4e5]]))
    assert math.isnan(found["word_perplexity"]) and found["perplexity"] == pytest.approx(math.exp(10))


def test_words_and_bytes_of_a_text() -> None:
    assert blocks.size_of("Grüße,  Welt\n🚀") == (3, 19)
