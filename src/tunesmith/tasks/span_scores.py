"""How answers to questions are scored: the rules of SQuAD's own scripts, written out.

Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016, and Rajpurkar et al., "Know What
You Don't Know: Unanswerable Questions for SQuAD", 2018. Scores are shares here (0 to 1), not per cent.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from functools import lru_cache

import numpy as np

from tunesmith.core.panel import Cell, Table

ARTICLES = re.compile(r"\b(a|an|the)\b")
LENGTHS = ((0, 0, "none"), (1, 1, "1"), (2, 3, "2 to 3"), (4, 6, "4 to 6"), (7, 10**9, "7 and more"))
PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=1 << 16)
def normalised(text: str) -> str:
    """The text in lower case, without ASCII punctuation and the words a, an, the, with single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact(gold: str, given: str) -> float:
    """1 where both texts are the same once normalised, else 0."""
    return float(normalised(gold) == normalised(given))


def overlap(gold: str, given: str) -> float:
    """F1 of the bags of words of two normalised texts; where one of them is empty, 1 if both are."""
    first, second = normalised(gold).split(), normalised(given).split()
    if not first or not second:
        return float(first == second)
    shared = (Counter(first) & Counter(second)).total()
    return 2 * shared / (len(first) + len(second))


@lru_cache(maxsize=1 << 17)
def scores(golds: tuple[str, ...], given: str) -> tuple[float, float]:
    """Exact match and F1 of a given text, each against the gold answer that it fits best.

    Gold answers of which nothing is left once normalised count as none; without any, the empty text is right.
    """
    wanted = [gold for gold in golds if normalised(gold)] or [""]
    return max(exact(gold, given) for gold in wanted), max(overlap(gold, given) for gold in wanted)


def of_rows(truths: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Exact match and F1 of every row, [rows, 2]: truths [rows, 3] with the right texts in the middle, given [rows]."""
    return np.array([scores(golds, text) for golds, text in zip(truths[:, 1], given, strict=True)])


DEFINES = {
    "f1": "The harmonic mean of precision and recall of the words of the answer, averaged over rows, by SQuAD's rules.",
    "exact_match": "The share of answers that are a right one, word for word, by SQuAD's rules.",
    "f1_with_answer": "F1 over the questions that have an answer.",
    "accuracy_without_answer": "Of the questions that have no answer, the share that were given none.",
}
"""What the metrics are."""


def metrics(truths: np.ndarray, answers: np.ndarray, *, split: bool) -> dict[str, float]:
    """Means over rows of F1 and exact match; with `split`, also of the F1 of the questions that have an answer, and the
    share of the others that were given none (NaN where there are none such). Both [rows, 3].
    """
    found = of_rows(truths, answers[:, 0])
    both = {"f1": _mean(found[:, 1]), "exact_match": _mean(found[:, 0])}
    if not split:
        return both
    has = truths[:, 1].astype(bool)
    return {**both, "f1_with_answer": _mean(found[has, 1]), "accuracy_without_answer": _mean(found[~has, 1])}


def by_length(truths: np.ndarray, answers: np.ndarray) -> Table:
    """F1 and exact match of the rows whose right answer has so many words."""
    found = of_rows(truths, answers[:, 0])
    words = np.array([len(text.split()) for text in truths[:, 0]])
    rows: list[list[Cell]] = []
    for low, high, name in LENGTHS:
        chosen = (words >= low) & (words <= high)
        if chosen.any():
            rows.append([name, int(chosen.sum()), _mean(found[chosen, 1]), _mean(found[chosen, 0])])
    return Table("By length of the right answer", ["words", "rows", "F1", "exact match"], rows)


def withheld(truths: np.ndarray, answers: np.ndarray) -> Table:
    """How many questions with and without an answer were given one."""
    has, given = truths[:, 1].astype(bool), answers[:, 0].astype(bool)
    rows: list[list[Cell]] = [
        [name, int((chosen & given).sum()), int((chosen & ~given).sum())]
        for name, chosen in (("has an answer", has), ("has none", ~has))
    ]
    return Table("Answers given and withheld", ["the question", "answered", "not answered"], rows)


def best_threshold(differences: np.ndarray, answered: np.ndarray, silent: np.ndarray) -> float:
    """The t that makes the most of: row i counts answered[i] where differences[i] <= t, silent[i] elsewhere.

    All [rows]. It lies halfway between two differences, or 1 beyond the outermost; of several best, the nearest to 0.
    """
    order = np.argsort(differences, kind="stable")
    steps = differences[order]
    bounds = np.concatenate([[steps[0] - 1], (steps[1:] + steps[:-1]) / 2, [steps[-1] + 1]])  # [rows + 1]
    gained = np.concatenate([[0.0], np.cumsum((answered - silent)[order])])
    # Rows with one difference stand on one side together: no threshold lies between them.
    possible = np.concatenate([[True], steps[1:] > steps[:-1], [True]])
    best = possible & (gained >= gained[possible].max() - 1e-9)
    return float(min(bounds[best], key=abs))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
