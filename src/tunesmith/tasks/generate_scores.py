"""How near a generated text is to its references, as statistics of each text whose sums or means give the corpus's.

BLEU and chrF are ratios of sums: a corpus's score is that of the added statistics of its texts, so that any resampling
of rows costs one addition. The counts of BLEU and its score come from sacrebleu; chrF's counts, which sacrebleu does
not show, are made here, with its own n-grams. ROUGE is a mean over texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from tunesmith.core.lazy import Lazy

bleus: Any = Lazy("sacrebleu.metrics.bleu")
helpers: Any = Lazy("sacrebleu.metrics.helpers")

BLEU_COUNTS = 10
CHARACTERS = 6
"""chrF's longest n-gram."""
BETA = 2
"""How many times more recall counts than precision in chrF."""
COUNTS = BLEU_COUNTS + 3 * CHARACTERS
MEANS = ("rouge1", "rouge2", "rougeL", "exact_match")


@cache
def _scorer() -> Any:
    return bleus.BLEU(effective_order=True)


@lru_cache(maxsize=1 << 16)
def statistics(text: str, references: tuple[str, ...]) -> np.ndarray:
    """Everything that the scores need of one text: [COUNTS + len(MEANS)].

    BLEU's lengths, matches and totals, chrF's counts of every order (text, reference, matches), then the F-measures of
    ROUGE and whether the text is a reference, up to white space at its ends. Of several references each score takes the
    best as its own definition says.
    """
    rouges = [[_rouge_n(text, one, 1), _rouge_n(text, one, 2), _rouge_l(text, one)] for one in references]
    exact = float(text.strip() in {one.strip() for one in references})
    found = np.array([*_bleu(text, references), *_chrf(text, references), *np.max(rouges, axis=0), exact])
    found.setflags(write=False)  # it is given out again and again
    return found


def scores(found: np.ndarray) -> dict[str, float]:
    """bleu and chrf of a corpus (0 to 100), the means of rouge1, rouge2, rougeL and exact_match (0 to 1), from the
    statistics of its texts [texts, COUNTS + len(MEANS)]. NaN each where there is no text.
    """
    if not len(found):
        return dict.fromkeys(("bleu", "chrf", *MEANS), float("nan"))
    sums = found[:, :COUNTS].sum(axis=0)
    means = found[:, COUNTS:].mean(axis=0).tolist()
    bleu, chrf = corpus_bleu(sums[:BLEU_COUNTS]), corpus_chrf(sums[BLEU_COUNTS:])
    return {"bleu": bleu, "chrf": chrf, **dict(zip(MEANS, means, strict=True))}


DEFINES = {
    "bleu": "BLEU, 0 to 100: how many runs of one to four words of the answers stand in the right ones.",
    "chrf": "chrF, 0 to 100: F-measure of runs of one to six characters that answers and right ones share.",
    "rouge1": "ROUGE-1, 0 to 1: F-measure of the words that answer and right one share, averaged.",
    "rouge2": "ROUGE-2, 0 to 1: F-measure of the pairs of words that answer and right one share, averaged.",
    "rougeL": "ROUGE-L, 0 to 1: F-measure of the longest common subsequence of words, averaged.",
    "exact_match": "The share of answers that are a right one, character by character.",
}
"""What the metrics are."""


def answered(truths: np.ndarray, answers: np.ndarray) -> list[tuple[str, tuple[str, ...]]]:
    """Answers [rows] and right ones [rows] of the rows that have both, None where there is none.

    Right ones stand for an answer, too: of several the first.
    """
    pairs = [(one, right) for one, right in zip(answers, truths, strict=True) if one is not None and right is not None]
    return [(one if isinstance(one, str) else one[0], right) for one, right in pairs]


def corpus_bleu(counts: np.ndarray) -> float:
    """BLEU of added counts [10]: lengths of text and nearest reference, matches and totals of n-grams of 1 to 4 words.

    Formula: BP exp(mean_n log p_n), BP = min(1, exp(1 - r / c)). Orders without a match are smoothed exponentially.
    Paper: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002; Post, "A Call for
    Clarity in Reporting BLEU Scores", 2018, whose defaults (tokeniser 13a) these are.
    """
    numbers = [int(count) for count in counts]
    found = bleus.BLEU.compute_bleu(numbers[2:6], numbers[6:], numbers[0], numbers[1], smooth_method="exp")
    return float(found.score)


def corpus_chrf(counts: np.ndarray) -> float:
    """chrF of added counts [3 * CHARACTERS]: F-measure of the mean precision and recall of n-grams of 1 to 6
    characters, without white space; orders longer than the texts are left out.

    Paper: Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015.
    """
    texts, references, matches = counts.reshape(CHARACTERS, 3).T
    counted = (texts > 0) & (references > 0)
    if not counted.any():
        return 0.0
    precision = float((matches[counted] / texts[counted]).mean())
    recall = float((matches[counted] / references[counted]).mean())
    weight = BETA**2
    both = weight * precision + recall
    return 100 * (1 + weight) * precision * recall / both if both else 0.0


def _bleu(text: str, references: Sequence[str]) -> list[float]:
    found = _scorer().sentence_score(text, list(references))
    return [found.sys_len, found.ref_len, *found.counts, *found.totals]


def _chrf(text: str, references: Sequence[str]) -> np.ndarray:
    """The counts against the reference with the best F-measure, the first of equals."""
    own = helpers.extract_all_char_ngrams(text, CHARACTERS)
    counts = [_matches(own, helpers.extract_all_char_ngrams(one, CHARACTERS)) for one in references]
    return max(counts, key=corpus_chrf)


def _matches(own: Sequence[Counter[str]], other: Sequence[Counter[str]]) -> np.ndarray:
    # As in sacrebleu, the n-grams of a text do not count where the reference is too short to have any of their order.
    rows = [
        (a.total() if b else 0, b.total(), sum(min(count, b[gram]) for gram, count in a.items() if gram in b))
        for a, b in zip(own, other, strict=True)
    ]
    return np.array(rows, dtype=float).flatten()


def _rouge_n(text: str, reference: str, order: int) -> float:
    """F-measure of the n-grams of words that text and reference share (Lin, "ROUGE", 2004)."""
    own, other = (_grams(words(one), order) for one in (text, reference))
    return _f_measure((own & other).total(), own.total(), other.total())


def _rouge_l(text: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words (Lin, 2004)."""
    own, other = words(text), words(reference)
    return _f_measure(_common(own, other), len(own), len(other))


def words(text: str) -> list[str]:
    """Runs of letters a to z and digits, in lower case: Lin's tokens, without stemming."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[at : at + order]) for at in range(len(tokens) - order + 1))


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, one row of the table at a time."""
    row = [0] * (len(second) + 1)
    for one in first:
        above = row
        row = [0]
        for at, other in enumerate(second, 1):
            row.append(above[at - 1] + 1 if one == other else max(above[at], row[-1]))
    return row[-1]


def _f_measure(shared: int, own: int, other: int) -> float:
    precision, recall = shared / max(own, 1), shared / max(other, 1)
    return 2 * precision * recall / (precision + recall) if shared else 0.0
