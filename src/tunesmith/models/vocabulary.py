"""Words of a domain, given a token of their own: chosen from a text file by the tokens that they save, or listed.

A new word's row, of the embeddings and of an output layer that is not tied to them, starts as the mean of the rows of
the pieces that it was cut into. So its meaning starts where it was; with a random row a language model's other words
would suffer too (Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021).
"""

from __future__ import annotations

import copy
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.core import anatomy
from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.notes import note, warn
from tunesmith.models import pieces
from tunesmith.models.settings import ModelSettings

MOST, LEAST = 500, 3
KEPT_WORDS = 2_000_000
"""Different words that are counted at once; where there are more, those that stood once so far are forgotten."""
MEASURED_LINES = 20_000
WORD, BEHIND_A_BLANK = re.compile(r"[^\W_]+"), re.compile(r"(?<!\S)[^\W_]+")
SHOWN = 8

Given = str | Sequence[str] | Mapping[str, Any]


def choose(given: Given, tokenizer: PreTrainedTokenizerBase, name: str) -> list[str]:
    """The words that get a token, as the tokenizer reads them; what is chosen and what it saves is said.

    given: a list of words, a text file, or {file, most, least}. name: what the recipe calls the model.
    A file that can't be read raises DataError; where nothing is left to add, RecipeError.
    """
    kind = pieces.kind_of(tokenizer, name)
    if not isinstance(given, str | Mapping):
        return _listed(given, tokenizer, kind, name)
    settings: dict[str, Any] = {"file": given} if isinstance(given, str) else dict(given)
    path = Path(settings["file"]).expanduser()
    words = _of_file(path, settings.get("most", MOST), settings.get("least", LEAST), tokenizer, kind)
    trial = copy.deepcopy(tokenizer)
    pieces.join(trial, words, kind)
    words = [word for word, ids in zip(words, pieces.cut(trial, words), strict=True) if len(ids) == 1]
    grown = copy.deepcopy(tokenizer)
    new = pieces.join(grown, words, kind)
    before, after = _tokens_a_word(path, tokenizer), _tokens_a_word(path, grown)
    note(
        f"Words of {path} that get a token of their own: {len(words):,} ({_shown(words)}), by {len(new):,} new tokens. "
        f"Tokens a word there: {before:.3f} until now, {after:.3f} with them."
    )
    return words


def extend(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: Sequence[str], name: str) -> None:
    """Give each word a token in the tokenizer and a row in the model, both in place; words that are one already stay.

    Rows are added behind the last token that is in use, and no more of them than needed. A word that the tokenizer's
    rules cut raises RecipeError, one that can't be one token beside the others ModelError.
    """
    kind = pieces.kind_of(tokenizer, name)
    fresh = _unknown(words, tokenizer)
    _check_whole(fresh, tokenizer, kind, name)
    new = pieces.join(tokenizer, fresh, kind)
    left = [word for word, ids in zip(fresh, pieces.cut(tokenizer, fresh), strict=True) if len(ids) != 1]
    if left:
        raise ModelError(
            f"model.add_tokens: beside the others, {_shown(left)} can't be one token of {name}.", hint="Leave them out."
        )
    _make_room(model, len(tokenizer))
    _start(model, new)


def trains(model: nn.Module) -> bool:
    """Whether anything of the word embeddings trains."""
    return any(p.requires_grad for module in anatomy.word_embeddings(model).values() for p in module.parameters())


def warn_where_it_stays(model: nn.Module, settings: ModelSettings, method: str) -> None:
    """Say so where words were added and a method leaves the embeddings as they are."""
    if settings.add_tokens is not None and not trains(model):
        warn(
            f"The method '{method}' leaves the embeddings as they are: the rows of the added words stay the mean of "
            "their pieces'. Method full trains them, and so does lora with embeddings: true."
        )


def _make_room(model: PreTrainedModel, tokens: int) -> None:
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    if tokens <= embeddings.num_embeddings:
        return
    quiet = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]):
            model.resize_token_embeddings(tokens, mean_resizing=False)
    finally:
        transformers.logging.set_verbosity(quiet)


@torch.no_grad()
def _start(model: PreTrainedModel, new: Mapping[int, Sequence[int]]) -> None:
    """Set the rows of new tokens to the mean of the rows of those that they stand for."""
    embeddings, words = model.get_input_embeddings(), anatomy.output_layer(model)
    tensors: list[Any] = [embeddings.weight, getattr(words, "weight", None), getattr(words, "bias", None)]
    for tensor in {id(tensor): tensor for tensor in tensors if isinstance(tensor, Tensor)}.values():
        for token, old in new.items():
            tensor[token] = tensor[list(old)].float().mean(dim=0).to(tensor.dtype)


def _listed(words: Sequence[str], tokenizer: PreTrainedTokenizerBase, kind: str, name: str) -> list[str]:
    read = list(dict.fromkeys(pieces.canonical(tokenizer, word) for word in words))
    if len(read) < len(words):
        note(f"model.add_tokens: {len(words) - len(read)} of {len(words)} words are read as another one: left out.")
    fresh = _unknown(read, tokenizer)
    if not fresh:
        raise RecipeError(
            f"model.add_tokens: each of the {len(read)} words ({_shown(read)}) is one token of {name} already.",
            hint="Leave model.add_tokens out.",
        )
    if len(fresh) < len(read):
        known = [word for word in read if word not in set(fresh)]
        note(f"model.add_tokens: {len(known)} words are one token already: left out ({_shown(known)}).")
    _check_whole(fresh, tokenizer, kind, name)
    mean = sum(map(len, pieces.cut(tokenizer, fresh))) / len(fresh)
    note(f"Words that get a token of their own: {len(fresh):,}. Until now each took {mean:.2f} tokens on average.")
    return fresh


def _check_whole(words: Sequence[str], tokenizer: PreTrainedTokenizerBase, kind: str, name: str) -> None:
    cut = zip(words, pieces.cut(tokenizer, words), strict=True)
    bad = [word for word, ids in cut if not pieces.can_be_one(tokenizer, word, ids, kind)]
    if bad:
        raise RecipeError(
            f"model.add_tokens: {_shown(bad)} can't be one token of {name}: its tokenizer cuts such words by rule.",
            hint="Leave them out, or give their parts.",
        )


def _of_file(path: Path, most: int, least: int, tokenizer: PreTrainedTokenizerBase, kind: str) -> list[str]:
    """The words that save the most tokens: how often a word stands in the file, times its pieces less one."""
    counts = _counts(path, tokenizer, kind)
    often = [word for word, count in counts.items() if count >= least]
    cut = pieces.cut(tokenizer, often)
    saved = {
        word: counts[word] * (len(ids) - 1)
        for word, ids in zip(often, cut, strict=True)
        if len(ids) > 1 and pieces.can_be_one(tokenizer, word, ids, kind)
    }
    if not saved:
        raise RecipeError(
            f"model.add_tokens: {path} holds no word to add: of {len(counts):,} words {len(often):,} stand in it at "
            f"least {least} times, and each of them is one token already.",
            hint="Give more text of the domain, a smaller `least`, or leave model.add_tokens out.",
        )
    return sorted(saved, key=lambda word: (-saved[word], word))[:most]


def _counts(path: Path, tokenizer: PreTrainedTokenizerBase, kind: str) -> Counter[str]:
    pattern = WORD if kind == pieces.WORD_PIECE else BEHIND_A_BLANK
    raw: Counter[str] = Counter()
    for line in _lines(path):
        raw.update(word for word in pattern.findall(line) if not word.isdecimal())
        if len(raw) > KEPT_WORDS:
            raw = Counter({word: count for word, count in raw.items() if count > 1})
    if not raw:
        raise DataError(f"model.add_tokens: {path} holds no words.", hint="Give a text file of the domain.")
    counts: Counter[str] = Counter()
    for word, count in raw.items():
        counts[pieces.canonical(tokenizer, word)] += count
    del counts[""]
    return counts


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, unpacked where its name ends in .gz."""
    packed = path.name.lower().endswith(".gz")
    if Path(path.name.lower().removesuffix(".gz")).suffix != ".txt" or not path.is_file():
        fault = f"ends in '{path.suffix}'" if path.is_file() else "is a folder" if path.is_dir() else "does not exist"
        hint = "Give a text file, .txt or .txt.gz; words themselves are given as a list: [WORD, WORD]."
        raise DataError(f"model.add_tokens: {path} {fault}.", hint=hint)
    number = 0
    try:
        stream: IO[bytes]
        with gzip.open(path) if packed else path.open("rb") as stream:  # type: ignore[assignment]
            for number, line in enumerate(stream, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"model.add_tokens: {path}, line {number} is not UTF-8.", hint="Convert it.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"model.add_tokens: {path} can't be read: {error}.") from error


def _unknown(words: Sequence[str], tokenizer: Any) -> list[str]:
    """The words that are not one token yet."""
    unknown = tokenizer.unk_token_id
    cut = pieces.cut(tokenizer, words)
    return [word for word, ids in zip(words, cut, strict=True) if len(ids) != 1 or ids[0] == unknown]


def _tokens_a_word(path: Path, tokenizer: Any) -> float:
    lines = list(islice(_lines(path), MEASURED_LINES))
    found = tokenizer(lines, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return sum(map(len, found)) / max(1, sum(len(line.split()) for line in lines))


def _shown(words: Sequence[str]) -> str:
    return ", ".join(words[:SHOWN]) + (", …" if len(words) > SHOWN else "")
