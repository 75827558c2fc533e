"""Words exchanged for like ones until the answer turns: a simplified TextFooler.

Importance of word i: I_i = p_y(x) - p_y(x without w_i), and where the answer turns to y' without it also
p_y'(x without w_i) - p_y'(x). Words are tried in the order of their importance; a word's substitutes are its nearest
neighbours by the cosine of the backbone's own input embeddings, as far as it is at least `cosine`. Of the substitutes
that turn the answer the nearest is taken; else the one with the lowest p_y, if that is lower than before.

Symbols: y the answer to the text x, p probabilities of classes.

After Jin et al., "Is BERT Really Robust? A Strong Baseline for Natural Language Attack on Text Classification and
Entailment", 2020. Ours is simpler: their neighbours come from embeddings that were trained to tell synonyms from
antonyms, and they keep only substitutes of the same part of speech in sentences that an encoder finds alike. So among
ours are words that change the meaning, and the rate of success is an upper bound: look at the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from tunesmith.core import anatomy
from tunesmith.core.finished import Asked
from tunesmith.core.notes import note
from tunesmith.core.panel import Cell, Figure, Result, Table
from tunesmith.core.rows import take
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import stats
from tunesmith.evaluate.robustness_answers import cut, probabilities
from tunesmith.evaluate.robustness_changes import WORD
from tunesmith.evaluate.robustness_english import FUNCTION_WORDS
from tunesmith.evaluate.robustness_measure import Ground
from tunesmith.evaluate.robustness_rows import Listed

SUBJECT = "attack"
SHORTEST = 2
"""Letters of a word that may be exchanged, or stand in."""

Ask = Callable[[Sequence[str]], np.ndarray]
"""Probabilities of texts, [texts, classes]."""
Substitutes = Callable[[str], list[str]]
"""What may stand in for a word, the nearest first."""


@dataclass(frozen=True)
class Neighbours:
    """Words that are one token each, and their embeddings of length 1 [words, hidden]."""

    words: list[str]
    vectors: Tensor
    most: int
    cosine: float

    def of(self, word: str) -> list[str]:
        """At most `most` other words whose cosine with the word is at least `cosine`, the nearest first, with a capital
        where the word has one.
        """
        if word.lower() in FUNCTION_WORDS or (place := self._place(word)) is None:
            return []
        cosines = self.vectors @ self.vectors[place]  # [words]
        near = cosines.topk(min(len(self.words), 4 * self.most + 1))
        known = {word.lower(), *FUNCTION_WORDS}
        found: list[str] = []
        for number, cosine in zip(near.indices.tolist(), near.values.tolist(), strict=True):
            other = self.words[number]
            if cosine >= self.cosine and other.lower() not in known:
                known.add(other.lower())
                found.append(other[0].upper() + other[1:] if word[0].isupper() else other)
        return found[: self.most]

    def _place(self, word: str) -> int | None:
        return next((self._places[one] for one in (word, word.lower()) if one in self._places), None)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}


@dataclass(frozen=True)
class Attacked:
    """What came of a text: the text after the attack, whether the answer turned, how many of its words were exchanged,
    and how many texts the model was asked.
    """

    text: str
    turned: bool
    changed: int
    words: int
    queries: int


def attack(text: str, answer: int, ask: Ask, substitutes: Substitutes) -> Attacked:
    """Exchange words of a text until the model's answer is no longer `answer`."""
    pieces = _pieces(text)
    open_words = {place: found for place in range(1, len(pieces), 2) if (found := substitutes(pieces[place]))}
    words = len(pieces) // 2
    if not open_words:
        return Attacked(text, False, 0, words, 0)
    without = ["".join([*pieces[:place], *pieces[place + 1 :]]) or " " for place in open_words]
    plain, *left = ask([text, *without])
    queries, changed, score = 1 + len(without), 0, float(plain[answer])
    order = np.argsort([-importance(plain, one, answer) for one in left], kind="stable")
    for place in np.array(list(open_words))[order].tolist():
        scores = ask(["".join([*pieces[:place], word, *pieces[place + 1 :]]) for word in open_words[place]])
        queries += len(scores)
        turned = np.flatnonzero(scores.argmax(axis=1) != answer)
        best = int(turned[0]) if len(turned) else int(scores[:, answer].argmin())
        if len(turned) or scores[best, answer] < score:
            pieces[place], score, changed = open_words[place][best], float(scores[best, answer]), changed + 1
        if len(turned):
            return Attacked("".join(pieces), True, changed, words, queries)
    return Attacked("".join(pieces), False, changed, words, queries)


def importance(plain: np.ndarray, without: np.ndarray, answer: int) -> float:
    """How much a word holds the answer up, from the probabilities with and without it, [classes] each.

    >>> importance(np.array([0.9, 0.1]), np.array([0.4, 0.6]), 0)
    1.0
    """
    fallen = float(plain[answer] - without[answer])
    other = int(without.argmax())
    return fallen if other == answer else fallen + float(without[other] - plain[other])


def neighbours(model: Asked, most: int, cosine: float) -> Neighbours | None:
    """The whole words of the model's vocabulary with their input embeddings; None where it has none."""
    tables = list(anatomy.word_embeddings(model.model).values())
    places = whole_words(model.tokenizer)
    if not tables or not places:
        return None
    weight = cast(Tensor, tables[0].weight).detach()
    vectors = torch.nn.functional.normalize(weight[list(places.values())].float().cpu(), dim=-1)  # [words, hidden]
    return Neighbours(list(places), vectors, most, cosine)


def whole_words(tokenizer: Any) -> dict[str, int]:
    """Words that the tokenizer makes one token of where a blank stands before them, with the token's id."""
    ids = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    words = [text.strip() for text in tokenizer.batch_decode([[one] for one in ids])]
    known = {word: one for word, one in zip(words, ids, strict=True) if len(word) >= SHORTEST and word.isalpha()}
    if not known:
        return {}
    made = tokenizer([f" {word}" for word in known], add_special_tokens=False)["input_ids"]
    return {word: one for (word, one), pieces in zip(known.items(), made, strict=True) if pieces == [one]}


def measured(ground: Ground, most: int, near: Neighbours | None, examples: int) -> Result:
    """Attack at most `most` rows that are answered rightly: how many answers turn, the share of words that took, and
    how many texts were asked for each.
    """
    role = ground.laid.texts[0] if len(ground.laid.texts) == 1 and ground.laid.labels else None
    if role is None or near is None or ground.answers.ndim != 1:
        why = "the model's vocabulary has no whole words" if role and near is None else "it is for classes of one text"
        note(f"Robustness: the attack was left out: {why}.")
        return Result()
    right = np.flatnonzero(ground.judge.right(ground.truths, ground.answers)).tolist()
    draw = Random(seed_of(ground.finished.seed, SUBJECT))
    chosen = sorted(draw.sample(right, min(most, len(right))))
    if not chosen:
        note("Robustness: the attack was left out: no row is answered rightly.")
        return Result()

    def ask(texts: Sequence[str]) -> np.ndarray:
        found = probabilities(ground.finished.now, Listed([{role: text} for text in texts]))
        assert found is not None
        return found

    rows = take(ground.rows, [ground.places[number] for number in chosen])
    answers = [int(ground.answers[number]) for number in chosen]
    found = [attack(row[role], answer, ask, near.of) for row, answer in zip(rows, answers, strict=True)]
    turned = np.array([one.turned for one in found])
    share = np.array([one.changed / max(1, one.words) if one.turned else np.nan for one in found])
    queries = np.array([one.queries for one in found], dtype=float)
    figures = _figures(ground, turned, share, queries)
    cells: list[list[Cell]] = []
    for place in np.flatnonzero(turned)[: 5 * examples].tolist():
        after = int(ask([found[place].text])[0].argmax())
        names = map(ground.judge.shown, (answers[place], after))
        before, new = rows[place][role], found[place].text
        cells.append([cut(before, new), cut(new, before), *names, float(share[place]), found[place].queries])
    columns = ["before", "after", "answer", "answer after", "share of words", "texts asked"]
    told = (
        f"{int(turned.sum()):,} of {len(found):,} rightly answered rows. A simplified TextFooler, which does not check "
        "that the meaning stays: the share is an upper bound."
    )
    return Result(figures, [Table("Answers turned by exchanged words", columns, cells, told)])


def _figures(ground: Ground, turned: np.ndarray, share: np.ndarray, queries: np.ndarray) -> list[Figure]:
    def means(numbers: np.ndarray, _: np.ndarray) -> dict[str, float]:
        exchanged = share[numbers][turned[numbers]]
        return {
            "answers changed": float(turned[numbers].mean()),
            "words exchanged": float(exchanged.mean()) if len(exchanged) else np.nan,
            "texts asked": float(queries[numbers].mean()),
        }

    numbers = np.arange(len(turned))
    spans = stats.bootstrap(means, numbers, numbers, seed_of(ground.finished.seed, "bootstrap"))
    return [
        Figure(name, value, ground.split, SUBJECT, *spans[name])
        for name, value in means(numbers, numbers).items()
        if np.isfinite(value)
    ]


def _pieces(text: str) -> list[str]:
    """What stands between words, and words, by turns: the words are at odd places."""
    pieces, end = [], 0
    for found in WORD.finditer(text):
        if found.end() - found.start() >= SHORTEST:
            pieces += [text[end : found.start()], found[0]]
            end = found.end()
    return [*pieces, text[end:]]
