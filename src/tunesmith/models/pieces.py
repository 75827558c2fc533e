"""Tokenizers from the inside: what a word is cut into, and words that become one token without changing any other text.

WordPiece   a new word is an added token that matches whole words alone, after the tokenizer has normalised the text
BPE         the word's pieces are joined by new merges, which come after all old ones: a text is cut as before, and only
            then are pieces joined further; a word of more than two pieces takes a token for each step
Unigram     the word gets a score just above the sum of its pieces': it wins where they would have stood, nowhere else

Decoding stays what it was, and no text takes more tokens than before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import ModelError

WORD_PIECE, PAIRS, UNIGRAM = "WordPiece", "BPE", "Unigram"
MARK = "▁"
"""What stands for a blank in tokenizers that come from SentencePiece."""
EDGE = 1e-3
"""By how much the score of a whole word beats that of two pieces."""


def kind_of(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """WordPiece, BPE or Unigram. Another kind of tokenizer raises ModelError."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    found = None if backend is None else json.loads(backend.to_str())["model"].get("type")
    if found not in (WORD_PIECE, PAIRS, UNIGRAM):
        raise ModelError(
            f"model.add_tokens: the tokenizer of {name} ({type(tokenizer).__name__}) takes no new words: "
            f"only {WORD_PIECE}, {PAIRS} and {UNIGRAM} tokenizers of the library tokenizers do.",
            hint="Leave model.add_tokens out, or name another model.",
        )
    return str(found)


def canonical(tokenizer: Any, word: str) -> str:
    """The word as the tokenizer reads it: an uncased one lowers it and takes its accents off."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return (normalizer.normalize_str(word) if normalizer else word).strip(f" {MARK}")


def cut(tokenizer: Any, words: Sequence[str]) -> list[list[int]]:
    """The tokens that each word takes where it stands in a text, behind a blank."""
    texts = [_lead(tokenizer) + word for word in words]
    if not texts:
        return []
    return list(tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"])


def can_be_one(tokenizer: Any, word: str, ids: Sequence[int], kind: str) -> bool:
    """Whether the tokenizer's rules leave the word whole before it is cut, with no unknown part."""
    if kind == WORD_PIECE:
        return " " not in word
    backend, text = tokenizer.backend_tokenizer, _lead(tokenizer) + word
    normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
    units = [normal]
    if backend.pre_tokenizer is not None:
        units = [unit for unit, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]
    return units == ["".join(tokenizer.convert_ids_to_tokens(ids))]


def join(tokenizer: Any, words: Sequence[str], kind: str) -> dict[int, list[int]]:
    """Give each word a token, in place. Returns the new tokens, in order: number -> the old tokens that it stands for.

    Numbers go on after the last one in use.
    """
    pieces = cut(tokenizer, words)
    if kind == WORD_PIECE:
        first = len(tokenizer)
        tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
        return dict(enumerate(pieces, first))
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    old = _spelled_out(told["model"], tokenizer)
    new = (_merged if kind == PAIRS else _scored)(told["model"], pieces, old)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(told | {"truncation": None, "padding": None}))
    return dict(enumerate(new, len(old)))


def _lead(tokenizer: Any) -> str:
    """What must stand before a word so that it is cut as inside a text: a blank, unless the tokenizer puts one there
    (or WordPiece, which knows none).
    """
    first = tokenizer.tokenize("a")[:1]
    return " " if first == ["a"] and _marks_blanks(tokenizer) else ""


def _marks_blanks(tokenizer: Any) -> bool:
    return len(tokenizer.tokenize("a a")) > 2 or tokenizer.tokenize("a a")[-1] != "a"


def _spelled_out(model: dict[str, Any], tokenizer: Any) -> dict[int, str]:
    """Every token by its number. Added tokens join the model's own vocabulary, so that further numbers come after
    theirs.
    """
    vocabulary = model["vocab"]
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    if isinstance(vocabulary, dict):
        vocabulary.update({token: number for number, token in names.items()})
    else:
        lowest = min(score for _, score in vocabulary)
        vocabulary += [[names[number], lowest] for number in range(len(vocabulary), len(names))]
    return names


def _merged(model: dict[str, Any], pieces: Sequence[Sequence[int]], names: Mapping[int, str]) -> list[list[int]]:
    """Add merges that join every word's pieces from the left; what the new tokens stand for."""
    vocabulary, ranks, new = model["vocab"], dict[tuple[str, str], int](), dict[str, list[int]]()
    stands_for = {token: [number] for number, token in names.items()}
    for ids in pieces:
        tokens = [names[number] for number in ids]
        while len(tokens) > 1:
            # First what the words before this one have joined already, in their order.
            known = [pair for pair in pairwise(tokens) if pair in ranks]
            pair = min(known, key=ranks.__getitem__) if known else (tokens[0], tokens[1])
            token = "".join(pair)
            ranks.setdefault(pair, len(ranks))
            if token not in stands_for:
                new[token] = stands_for[token] = [*stands_for[pair[0]], *stands_for[pair[1]]]
                vocabulary[token] = len(vocabulary)
            tokens = _joined(tokens, pair)
    written_as_lists = not model["merges"] or isinstance(model["merges"][0], list)
    model["merges"] += [list(pair) if written_as_lists else " ".join(pair) for pair in ranks]
    return list(new.values())


def _joined(tokens: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """The tokens with every such pair, from the left, joined."""
    found: list[str] = []
    place = 0
    while place < len(tokens):
        both = tuple(tokens[place : place + 2]) == pair
        found.append("".join(pair) if both else tokens[place])
        place += 2 if both else 1
    return found


def _scored(model: dict[str, Any], pieces: Sequence[Sequence[int]], names: Mapping[int, str]) -> list[list[int]]:
    """Add a piece a word, with the score that lets it win over the old ones; what the new pieces stand for."""
    scores = [score for _, score in model["vocab"]]
    for ids in pieces:
        score = sum(scores[number] for number in ids) + EDGE * (len(ids) - 1)
        model["vocab"].append(["".join(names[number] for number in ids), score])
    return [list(ids) for ids in pieces]
