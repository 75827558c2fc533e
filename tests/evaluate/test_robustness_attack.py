"""The attack: its order of words, its counts, and its neighbours by hand."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from tests import toy
from tests.evaluate import ruled
from tunesmith.core.notes import listening
from tunesmith.evaluate import robustness_attack as attack
from tunesmith.evaluate import stats

LIKE = {"please": ["kindly"], "cancel": ["stop", "abort", "end"]}


def ask(texts: Sequence[str]) -> np.ndarray:
    """The first class by a word."""
    strengths = {"cancel": 0.9, "stop": 0.6}
    first = [max([strengths.get(word, 0.2) for word in text.split()], default=0.2) for text in texts]
    return np.array([[one, 1 - one] for one in first])


def of(word: str) -> list[str]:
    return LIKE.get(word, [])


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(attack, extraglobs={"np": np}).failed == 0


def test_an_answer_turns_by_hand() -> None:
    # Asked: the text, it without each of two words, and three words in the place of "cancel", which counts most. Two of
    # them turn the answer: the nearer one is taken.
    found = attack.attack("please cancel it!", 0, ask, of)
    assert found == attack.Attacked("please abort it!", turned=True, changed=1, words=3, queries=6)


def test_an_answer_that_does_not_turn_keeps_what_weakened_it() -> None:
    found = attack.attack("please cancel it!", 0, ask, lambda word: of(word)[:1])
    assert found == attack.Attacked("please stop it!", turned=False, changed=1, words=3, queries=5)


def test_a_text_without_words_to_exchange_is_not_asked() -> None:
    assert attack.attack("it? 👍", 0, ask, of) == attack.Attacked("it? 👍", False, 0, 1, 0)
    assert attack.attack("", 0, ask, of).words == 0


def neighbours(**changes: Any) -> attack.Neighbours:
    words = ["cancel", "stop", "abort", "lamp", "not", "Stop"]
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.9, 0.43589], [0.0, 1.0], [1.0, 0.0], [0.8, 0.6]])
    return replace(attack.Neighbours(words, vectors, most=5, cosine=0.7), **changes)


def test_neighbours_by_hand() -> None:
    # "not" is as near as can be, and no word to put in; "Stop" is "stop" again; "lamp" is too far.
    assert neighbours().of("cancel") == ["abort", "stop"]
    assert neighbours().of("Cancel") == ["Abort", "Stop"]
    assert neighbours(cosine=0.85).of("cancel") == neighbours(most=1).of("cancel") == ["abort"]
    assert neighbours().of("not") == neighbours().of("unknown") == []


def test_whole_words_of_a_tokenizer() -> None:
    ids = {"<unk>": 0, "table": 1, "lamp": 2, "a": 3, "x1": 4, "##ing": 5, "oak": 6}
    word_level = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=word_level, unk_token="<unk>")
    assert attack.whole_words(tokenizer) == {"table": 1, "lamp": 2, "oak": 6}
    table = nn.Embedding(7, 2)
    model: Any = SimpleNamespace(
        get_input_embeddings=lambda: table, named_modules=lambda remove_duplicate: [("", table)]
    )
    found = attack.neighbours(SimpleNamespace(model=model, tokenizer=tokenizer), 3, 0.5)  # type: ignore[arg-type]
    assert found is not None and found.words == ["table", "lamp", "oak"]
    expected = table.weight[[1, 2, 6]] / table.weight[[1, 2, 6]].norm(dim=1, keepdim=True)
    assert torch.allclose(found.vectors, expected)


def test_a_vocabulary_of_bytes_has_no_whole_words() -> None:
    toyed = toy.prepared({})
    assert attack.whole_words(toyed.backbone.tokenizer) == {}
    with listening() as said:
        result = attack.measured(ruled.ground(ruled.rows(3)), 10, None, 1)
    assert result.figures == [] and "the model's vocabulary has no whole words" in said[0]


def test_figures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 20)
    rows = [
        {"text": "cancel lamp", "label": "cancel"},  # abort lamp: a price
        {"text": "how much lamp", "label": "price"},  # nothing turns it, as nothing is near "lamp"
        {"text": "cancel this", "label": "praise"},  # answered wrongly: not attacked
    ]
    result = attack.measured(ruled.ground(rows), 10, neighbours(), 1)
    assert {one.name: one.value for one in result.figures} == {
        "answers changed": 0.5,
        "words exchanged": 0.5,
        "texts asked": 2.0,  # the text, it without "cancel", and two others in its place; none for the second row
    }
    assert {one.subject for one in result.figures} == {"attack"}
    (table,) = result.panels
    assert table.rows == [["cancel lamp", "abort lamp", "cancel", "price", 0.5, 4]]  # type: ignore[union-attr]


def test_only_classes_of_one_text() -> None:
    rows = [{"text": "a lamp", "score": 1.0}, {"text": "it", "score": 2.0}]
    with listening() as said:
        attack.measured(ruled.ground(rows, lambda row: 1.0, ruled.task("regress")), 10, neighbours(), 1)
    assert "it is for classes of one text" in said[0]
